"""Prints, as JSON, every C callable and every C type that the running interpreter's standard library reaches.

`boundary_walk.py` runs it with each interpreter under test (it must therefore run on all of them, and imports nothing
of the project). It knows nothing of the tables: what it finds is compared with them by the caller.

    {"modules": {name: {"kind": "builtin" | "dynload" | "made", "functions": [name, ...],
                        "attributes": [name, ...], "file": path or null}},
     "types": {tp_name: {"module": ..., "methods": [...], "getset": [...], "members": [...], "slots": [...]}},
     "failed": {module: error}}
"""

import ctypes
import gc
import importlib.machinery
import json
import os
import sys
import sysconfig
import types
import warnings

HEAPTYPE = 1 << 9  # Py_TPFLAGS_HEAPTYPE
TP_NAME = 3 * ctypes.sizeof(ctypes.c_void_p)  # behind PyObject_VAR_HEAD; the same in every release build of CPython

# What `type.__dict__` calls a slot, by what the tables call it: the field of PyTypeObject. Several may be one slot.
SLOTS = {
    "__new__": "tp_new", "__init__": "tp_init", "__call__": "tp_call", "__repr__": "tp_repr", "__str__": "tp_str",
    "__hash__": "tp_hash", "__iter__": "tp_iter", "__next__": "tp_iternext", "__del__": "tp_finalize",
    "__getattribute__": "tp_getattro", "__setattr__": "tp_setattro", "__delattr__": "tp_setattro",
    "__get__": "tp_descr_get", "__set__": "tp_descr_set", "__delete__": "tp_descr_set",
    "__await__": "am_await", "__aiter__": "am_aiter", "__anext__": "am_anext",
    "__buffer__": "bf_getbuffer", "__release_buffer__": "bf_releasebuffer",
    "__bool__": "nb_bool", "__int__": "nb_int", "__float__": "nb_float", "__index__": "nb_index",
    "__len__": "mp_length", "__getitem__": "mp_subscript", "__setitem__": "mp_ass_subscript",
    "__delitem__": "mp_ass_subscript", "__contains__": "sq_contains",
}
for _dunder in ("lt", "le", "eq", "ne", "gt", "ge"):
    SLOTS["__%s__" % _dunder] = "tp_richcompare"
# Where a type fills the sequence slot and not the mapping slot the dunder is the same; the tables name the former.
SEQUENCE_SLOTS = {"mp_length": "sq_length", "mp_subscript": "sq_item", "mp_ass_subscript": "sq_ass_item"}

# Modules that are not imported, and why. Nothing else may be left out.
SKIPPED = {
    "antigravity": "opens a web browser when imported",
    "this": "prints when imported",
    "idlelib": "Tk application; its C callables are those of _tkinter",
    "turtle": "Tk application, and Debian ships tkinter in parts; its C callables are those of _tkinter",
    "turtledemo": "Tk application; its C callables are those of _tkinter",
    "__main__": "this script",
}
# Python classes that give themselves a dotted name.
RENAMED_CLASSES = {"typing.io", "typing.re"}
# Modules made for CPython's own tests: no program uses them, and some crash on purpose.
TEST_PREFIXES = ("_test", "_xxtestfuzz", "_ctypes_test", "xxlimited", "xxsubtype")


def dynload_names():
    """The extension modules beside the standard library, by file name."""
    suffixes = importlib.machinery.EXTENSION_SUFFIXES
    folder = sysconfig.get_config_var("DESTSHARED") or os.path.dirname(__import__("_ctypes").__file__)
    for file in sorted(os.listdir(folder)):
        for suffix in suffixes:
            if file.endswith(suffix):
                name = file[: -len(suffix)]
                if "." not in name:  # else it is for a debug build, which has its modules in the same folder
                    yield name
                break


def is_c_module(module):
    """Made by C: built in, or loaded from a shared object."""
    spec = getattr(module, "__spec__", None)
    origin = getattr(spec, "origin", None)
    if isinstance(spec, importlib.machinery.ModuleSpec) and origin not in ("built-in", None):
        return origin.endswith(tuple(importlib.machinery.EXTENSION_SUFFIXES))
    return not hasattr(module, "__file__")


def tp_name(kind):
    return ctypes.c_char_p.from_address(id(kind) + TP_NAME).value.decode()


def is_c_type(kind):
    """A static type, one made from a PyType_Spec (its tp_name has the module), or an exception that a C module made."""
    if not kind.__flags__ & HEAPTYPE:
        return True
    if "." in tp_name(kind):
        return tp_name(kind) not in RENAMED_CLASSES
    module = sys.modules.get(kind.__dict__.get("__module__"))
    return module is not None and is_c_module(module)


def table_name(kind):
    """The name the tables use: tp_name, or module.name where C made the type by calling `type` (exceptions)."""
    name = tp_name(kind)
    if kind.__flags__ & HEAPTYPE and "." not in name:
        return "%s.%s" % (kind.__dict__.get("__module__", "?"), name)
    return name


def all_types():
    """Every type there is: below `object`, of every object the collector knows, and those in namespaces of both."""
    seen = {}
    stack = [object]
    for o in gc.get_objects():
        stack.append(type(o))
        if isinstance(o, type):
            stack.append(o)
    for module in list(sys.modules.values()):
        stack.extend(v for v in getattr(module, "__dict__", {}).values() if isinstance(v, type))
    while stack:
        kind = stack.pop()
        if id(kind) in seen:
            continue
        seen[id(kind)] = kind
        stack.append(type(kind))
        stack.extend(kind.__mro__)
        stack.extend(type.__subclasses__(kind))
        stack.extend(v for v in kind.__dict__.values() if isinstance(v, type))
    return seen.values()


def describe_type(kind):
    found = {"methods": [], "getset": [], "members": [], "slots": []}
    for name, value in kind.__dict__.items():
        if isinstance(value, (types.MethodDescriptorType, types.ClassMethodDescriptorType)):
            found["methods"].append(name)
        elif isinstance(value, staticmethod) and isinstance(value.__func__, types.BuiltinFunctionType):
            found["methods"].append(name)
        elif isinstance(value, types.GetSetDescriptorType):
            found["getset"].append(name)
        elif isinstance(value, types.MemberDescriptorType):
            found["members"].append(name)
        elif isinstance(value, types.WrapperDescriptorType) or (
            name == "__new__" and isinstance(value, types.BuiltinFunctionType)
        ):
            slot = SLOTS.get(name, name)
            found["slots"].append(slot)
            if slot in SEQUENCE_SLOTS:
                found["slots"].append(SEQUENCE_SLOTS[slot])
    found = {key: sorted(set(names)) for key, names in found.items()}
    found["module"] = kind.__dict__.get("__module__", "builtins") if kind.__flags__ & HEAPTYPE else kind.__module__
    return found


def import_everything():
    """Imports the standard library; answers what could not be imported, and how each C module came about."""
    failed, kinds = {}, {}
    dynload = [n for n in dynload_names() if not n.startswith(TEST_PREFIXES)]
    names = list(sys.builtin_module_names) + dynload + sorted(sys.stdlib_module_names)
    for name in names:
        if name in SKIPPED or name.startswith(TEST_PREFIXES):
            continue
        try:
            __import__(name)
        except ModuleNotFoundError as error:
            # Other platforms' modules stand in stdlib_module_names too, and a distribution may leave some out (Debian:
            # tkinter). What is there as C must import.
            if name in dynload or name in sys.builtin_module_names or error.name not in sys.stdlib_module_names:
                failed[name] = repr(error)
        except Exception as error:
            failed[name] = repr(error)
    for name in sys.builtin_module_names:
        kinds[name] = "builtin"
    for name in dynload:
        kinds[name] = "dynload"
    return failed, kinds


def inventory():
    # What is imported decides which lazily made types exist; output of imported modules may not mix with the JSON.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        failed, kinds = import_everything()
        # Types made on first use only.
        import asyncio
        import ssl

        ssl.MemoryBIO()
        asyncio.new_event_loop().close()
    # By identity: 3.11's `_io` calls itself "io", and a namespace that C makes (`pyexpat.errors`, `sys.monitoring`) may
    # stand in sys.modules twice, or not at all.
    owners = {}
    for name, module in list(sys.modules.items()):
        if isinstance(module, types.ModuleType) and is_c_module(module) and module.__name__ not in SKIPPED:
            owners.setdefault(id(module), (name if name in kinds else module.__name__, module))
    for o in gc.get_objects():
        if isinstance(o, types.BuiltinFunctionType) and isinstance(o.__self__, types.ModuleType):
            owners.setdefault(id(o.__self__), (o.__self__.__name__, o.__self__))
    modules = {}
    functions = {}
    for name, module in owners.values():
        if not name.startswith(TEST_PREFIXES):
            attributes = sorted(k for k in vars(module) if not k.startswith("__"))
            modules[name] = {
                "kind": kinds.get(name, "made"),
                "functions": set(),
                "attributes": attributes,
                "file": getattr(module, "__file__", None),
            }
            functions[id(module)] = modules[name]["functions"]
    # Functions that no module's dictionary holds are found by the collector.
    for o in gc.get_objects():
        if isinstance(o, types.BuiltinFunctionType) and id(o.__self__) in functions:
            functions[id(o.__self__)].add(o.__name__)
    for _, module in owners.values():
        for o in list(vars(module).values()):
            if isinstance(o, types.BuiltinFunctionType) and id(o.__self__) in functions:
                functions[id(o.__self__)].add(o.__name__)
            elif isinstance(o, types.BuiltinFunctionType) and o.__self__ is None:  # METH_STATIC, made without a module
                functions[id(module)].add(o.__name__)
    for entry in modules.values():
        entry["functions"] = sorted(entry["functions"])
    described = {}
    for kind in all_types():
        if is_c_type(kind) and not str(kind.__dict__.get("__module__", "")).startswith(TEST_PREFIXES):
            name = table_name(kind)
            if name in described:  # two types of one name: what either has
                merged = describe_type(kind)
                for key in ("methods", "getset", "members", "slots"):
                    described[name][key] = sorted(set(described[name][key]) | set(merged[key]))
            else:
                described[name] = describe_type(kind)
    return {
        "version": "%d.%d" % sys.version_info[:2],
        "release": sys.version.split()[0],
        "modules": modules,
        "types": described,
        "failed": failed,
    }


if __name__ == "__main__":
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    json.dump(inventory(), out)
    out.flush()
    os._exit(0)  # no finalizer of what was imported may run
