# Answers the debugger's questions about a stopped replay, in a copy of it that is thrown away. Run by src/timeline/inspect.rs
# before the program begins, in a namespace of its own, which has `sys`. It imports nothing: the program's imports are its own,
# and there are none where the interpreter ends, nor what `sys` had. evaluation.py, completions.py and code.py go on from it.
# How the client wants values to be shown.
FORMAT = {"hex": False}
HIDDEN = ("<retrace>", "<frozen runpy>")
TEXT_LIMIT = 4000
# What is in a container is cut sooner, as debugpy does.
INNER_LIMIT = 128
ITEM_LIMIT = 100
FUNCTIONS = frozenset(
    """function builtin_function_or_method builtin_method method method-wrapper wrapper_descriptor
    method_descriptor""".split()
)
NO_CHILDREN = (str, bytes, bytearray, int, float, complex, bool, type(None), type(Ellipsis), type(NotImplemented))


# Values are shown in a process each: one of them has not come to an end.
APART = {"is_on": False, "given_up": 0}


def answer(question, state, exception):
    APART["is_on"] = question.get("apart", False)
    FORMAT["hex"] = (question.get("format") or {}).get("hex", False)
    # A `__repr__` may print. What is evaluated has streams of its own.
    before = streams(QUIET, QUIET)
    put_back = Library.begin()
    try:
        return ANSWERS[question["ask"]](question, state, exception)
    finally:
        put_back()
        streams(*before)


def streams(out, error):
    """Puts streams in the place of those that `sys` has, which are returned."""
    before = getattr(sys, "stdout", None), getattr(sys, "stderr", None)
    sys.stdout, sys.stderr = out, error
    return before


def loaded():
    """The program's modules. None are left where the interpreter ends."""
    return sys.modules or {}


# ---- threads and frames ----


def frames_of(thread, state):
    """The program's frames of a thread, innermost first."""
    ident = dict(state["threads"]).get(thread)
    frame = current_frames().get(ident)
    frames = []
    while frame is not None:
        if frame.f_code.co_filename not in HIDDEN:
            frames.append(frame)
        frame = frame.f_back
    return frames


def find_frame(question, state):
    """The frame a question is about; counted from below, so that the number holds while others come and go."""
    frames = frames_of(question["thread"], state)
    return frames[len(frames) - 1 - question["frame"]]


def place_of(question, state):
    """The frame of a question, its globals and its locals. Without a frame, the globals of the module that the thread is in."""
    if question.get("frame") is not None:
        frame = find_frame(question, state)
        return frame, frame.f_globals, frame.f_locals
    frames = frames_of(question["thread"], state)
    return None, frames[0].f_globals if frames else vars(loaded()["__main__"]), None


def threads(_question, state, _exception):
    module = loaded().get("threading")
    known = dict(getattr(module, "_active", {})) if module is not None else {}
    result = []
    for number, ident in state["threads"]:
        thread = known.get(ident)
        name = getattr(thread, "_name", None)
        result.append({"thread": number, "name": str(name or ("MainThread" if number == 0 else f"Thread {number}"))})
    return result


def stack(question, state, _exception):
    form = question.get("format") or {}
    frames = frames_of(question["thread"], state)
    result = []
    inner = frames[0] if frames else None
    depth = depth_of(inner)
    for place, frame in enumerate(frames):
        code = frame.f_code
        while inner is not frame:
            inner, depth = inner.f_back, depth - 1
        entry = {
            "frame": len(frames) - 1 - place,
            "depth": depth,
            "name": name_in(frame, form),
            "path": code.co_filename,
            "line": frame.f_lineno or code.co_firstlineno,
            "module": str(frame.f_globals.get("__name__", "")),
            "instruction": address_of(frame),
        }
        column = column_of(frame)
        if column is not None:
            entry["column"] = column
        result.append(entry)
    return result


def name_in(frame, form):
    """A function's name with as much else as is wanted."""
    name = frame.f_code.co_qualname
    if form.get("module"):
        name = f"{frame.f_globals.get('__name__', '?')}.{name}"
    if form.get("parameters"):
        parts = []
        for parameter, value in parameters_of(frame):
            part = parameter if form.get("parameterNames") else ""
            if form.get("parameterTypes") and value is not MISSING:
                part += f": {type(value).__name__}" if part else type(value).__name__
            if form.get("parameterValues") and value is not MISSING:
                part += f"={show(value, 100)}" if part else show(value, 100)
            parts.append(part)
        name = f"{name}({', '.join(filter(None, parts))})"
    return f"{name} : {frame.f_lineno}" if form.get("line") else name


def parameters_of(frame):
    """A function's parameters, and their values as they are now."""
    code, local = frame.f_code, frame.f_locals
    count = code.co_argcount + code.co_kwonlyargcount + bool(code.co_flags & 4) + bool(code.co_flags & 8)
    return [(name, local.get(name, MISSING)) for name in code.co_varnames[:count]]


MISSING = object()


def depth_of(frame):
    """Its number from below, from 1, with those that are not shown."""
    depth = 0
    while frame is not None:
        depth += 1
        frame = frame.f_back
    return depth


def address_of(frame):
    """Stands for an instruction: no two of what lives now have the same."""
    return id(frame.f_code) + max(frame.f_lasti, 0)


def column_of(frame):
    """In bytes, from 0."""
    for place, position in enumerate(frame.f_code.co_positions()):
        if place * 2 == frame.f_lasti:
            return position[2] if position[0] == frame.f_lineno else None
    return None


# ---- values ----


def show(value, limit=TEXT_LIMIT, inner=INNER_LIMIT):
    """A value's `repr`, cut where it is long. Containers are cut before their items are asked."""
    kind = type(value)
    if APART["is_on"] and kind not in AT_HAND and kind.__repr__ is not object.__repr__:
        return show_apart(value, limit, inner)
    return show_here(value, limit, inner)


AT_HAND = (str, bytes, int, float, complex, bool, type(None), type(len), type(sys), type(answer))
GIVEN_UP = 4


def show_apart(value, limit, inner):
    text = apart(lambda: show_here(value, limit, inner))
    if text is None:
        return f"<{type(value).__name__} whose repr takes too long, or ends the process>"
    return text


def apart(function):
    """What a function says in a copy of this process, or None where that does not come to an end."""
    text = None
    if APART["given_up"] < GIVEN_UP:
        APART["is_on"] = False
        text = run_apart(function)
        APART["is_on"] = True
    if text is None:
        APART["given_up"] += 1
    return text


ATTRIBUTE_CODE = ("__getattribute__", "__getattr__", "__dir__")


def asks_apart(value):
    """Whether to look at a value's attributes in copies: code of the program's may run then."""
    if not APART["is_on"]:
        return False
    bases = type.__getattribute__(type(value), "__mro__")
    own = [type.__getattribute__(base, "__dict__").get(name) for base in bases for name in ATTRIBUTE_CODE]
    return any(type(function) is type(answer) for function in own)


def can_get(value, name):
    try:
        getattr(value, name)
    except BaseException:
        pass
    return "it came to an end"


def show_here(value, limit, inner):
    text = shown_item(value, (), limit, Room(limit, inner))
    # A string has been cut in its middle.
    return text if len(text) <= limit or type(value) in (str, bytes) else text[:limit] + "..."


class Room:
    """How much may still be shown, and how much of one thing in a container."""

    def __init__(self, left, inner):
        self.left = left
        self.inner = inner


def shown_item(value, around, limit, room):
    """A value in the containers `around` it. That it can't be shown does not hide the others."""
    try:
        text = shorten(value, around, limit, room)
    except BaseException as error:
        if is_not_recorded(error):
            text = f"{object.__repr__(value)[:-1]}, whose repr is {NOT_RECORDED}>"
        else:
            text = f"<{type(value).__name__} whose repr raised {type(error).__name__}: {error}>"
    # Of containers, what is in them has been counted.
    room.left -= 2 if type(value) in BRACKETS else len(text)
    return text


def shorten(value, around, limit, room):
    kind = type(value)
    if kind is str or kind is bytes:
        return repr(cut(value, limit))
    if kind is int:
        if FORMAT["hex"]:
            return hex(value)
        return repr(value) if value.bit_length() <= 13000 else f"<int of {value.bit_length()} bits>"
    base = next((base for base in BRACKETS if kind is base or is_shown_as(kind, base)), None)
    if base is None:
        text = repr_of(value)
        return cut(text, limit) if around else text
    if not base.__len__(value):
        return repr(value)
    begin, end = BRACKETS[base]
    if len(around) == 6 or any(value is other for other in around):
        return begin + "..." + end
    around, parts = (*around, value), []
    for item in base.__iter__(value):
        if len(parts) == ITEM_LIMIT or room.left < 0:
            parts.append("...")
            break
        text = shown_item(item, around, room.inner, room)
        if base is dict:
            text = f"{text}: {shown_item(dict.__getitem__(value, item), around, room.inner, room)}"
        parts.append(text)
    if base is tuple and len(parts) == 1:
        parts.append("")
        return begin + parts[0] + "," + end
    return begin + ", ".join(parts) + end


def repr_of(value):
    """A value's `repr`. One that is written in Python may have the address in it, by `id()`, which nobody knows."""
    made_up_addresses()
    text = repr(value)
    for address in made_up_addresses():
        for form in (f"{address:x}", f"{address:X}"):
            for zeros in ("0x" + form, "0x" + form.zfill(16), "0X" + form.zfill(16), form.zfill(16)):
                text = text.replace(zeros, "0x?")
        text = text.replace(str(address), "?")
    return text


def is_shown_as(kind, base):
    """Whether a subclass has its base's `repr`. A set's says the class."""
    return base in (list, tuple, dict) and kind.__repr__ is base.__repr__


def cut(text, limit):
    """A text, or bytes, without what is too much in its middle."""
    if len(text) <= limit:
        return text
    return text[: limit * 2 // 3] + (b"..." if type(text) is bytes else "...") + text[-(limit // 3) :]


BRACKETS = {}


# What the outside was not asked there: it was asked before, or was not by then.
LAST_KNOWN = " (last known)"
NOT_RECORDED = "not in the recording"


def is_not_recorded(error):
    return type(error).__name__ == "NotRecorded" and type(error).__module__ == "retrace"


def failed_text(error):
    """What is shown in the place of a value that could not be had."""
    return f"<{NOT_RECORDED if is_not_recorded(error) else said_by(error)}>"


def describe(name, value, steps, evaluate_name=None, since=None):
    """A variable. `since`: how many answers had been given again before its value was asked for, where that is code."""
    kind = type(value)
    since = given_again() if since is None else since
    entry = {"name": name, "value": show(value), "type": kind.__name__, "steps": steps}
    if given_again() != since:
        entry["value"] += LAST_KNOWN
    if evaluate_name is not None:
        entry["evaluateName"] = evaluate_name
    # Not isinstance(): a value's own code may say what its class is.
    if not issubclass(kind, NO_CHILDREN):
        entry["children"] = True
        if kind in SEQUENCES:
            entry["indexed"] = len(value)
    attributes = []
    if kind in (str, bytes):
        attributes.append("rawString")
    if attributes:
        entry["attributes"] = attributes
    return entry


def sequence_types():
    types = [list, tuple, set, frozenset]
    # `collections` itself may not have it yet.
    collections = loaded().get("_collections")
    if collections is not None:
        types.append(collections.deque)
    return tuple(types)


def begin_here():
    """Called once in each copy that is asked something. Not before: a class among a dict's keys would have a number by now,
    which its hash comes of."""
    global SEQUENCES
    BRACKETS.update(
        {list: ("[", "]"), tuple: ("(", ")"), dict: ("{", "}"), set: ("{", "}"), frozenset: ("frozenset({", "})")}
    )
    SEQUENCES = sequence_types()


def step_into(value, step):
    kind, what = step
    if kind == "item":
        if isinstance(value, (set, frozenset)) or not hasattr(type(value), "__getitem__"):
            for place, item in enumerate(value):
                if place == what:
                    return item
            raise IndexError(what)
        return value[what]
    if kind == "key":
        for place, key in enumerate(dict.keys(value)):
            if place == what:
                return dict.__getitem__(value, key)
        raise KeyError(what)
    return getattr(value, what)


def roots(question, state, exception):
    """The object that a reference begins at."""
    root = question["root"]
    if root == "exception":
        return exception
    frame, names, local = place_of(question, state)
    if root == "expression":
        return value_in(question["expression"], code_of(frame), names, local)
    return {"locals": locals_of, "globals": globals_of, "closure": closure_of}[root](frame)


def locals_of(frame):
    names = frame.f_code.co_freevars
    return {name: value for name, value in frame.f_locals.items() if name not in names}


def closure_of(frame):
    names = frame.f_code.co_freevars
    return {name: value for name, value in frame.f_locals.items() if name in names}


def globals_of(frame):
    return frame.f_globals


def scopes(question, state, exception):
    frame = find_frame(question, state)
    result = [{"name": "Locals", "root": "locals", "count": len(locals_of(frame))}]
    if frame.f_code.co_freevars:
        result.append({"name": "Closure", "root": "closure", "count": len(closure_of(frame))})
    result.append({"name": "Globals", "root": "globals", "count": len(frame.f_globals)})
    if exception is not None and question["frame"] == len(frames_of(question["thread"], state)) - 1:
        result.append({"name": "Exception", "root": "exception", "count": None})
    return result


def variables(question, state, exception):
    value = roots(question, state, exception)
    steps = question["steps"]
    group = None
    for step in steps:
        if step[0] == "group":
            group = step[1]
        elif step[0] != "from":
            value = step_into(value, step)
    which = question.get("filter")
    part = part_of(question.get("start") or 0, question.get("count") or None)
    if question["root"] in ("locals", "globals", "closure") and (not steps or steps[0][0] == "group" and len(steps) == 1):
        return [] if which == "indexed" else namespace(value, steps, group)[part]
    return children(value, steps, group, question.get("name"), which, part)


def part_of(start, count):
    return slice(start, None if count is None else start + count)


def group_of(name, value):
    if name.startswith("__") and name.endswith("__"):
        return "special variables"
    kind = type(value).__name__
    if kind in FUNCTIONS:
        return "function variables"
    if issubclass(type(value), type):
        return "class variables"
    return None


def namespace(names, steps, group):
    """Variables of a scope, with the special ones, functions and classes in groups as debugpy has them."""
    entries, groups = [], []
    for name, value in names.items():
        name = str(name)
        belongs = group_of(name, value)
        if belongs != group:
            if group is None and belongs not in groups:
                groups.append(belongs)
            continue
        entries.append(describe(name, value, [["item", name]], name))
    return group_entries(groups, steps) + entries


# As debugpy has them.
GROUPS = ("special variables", "function variables", "class variables")


def group_entries(groups, steps):
    return [group_entry(name, steps) for name in GROUPS if name in groups]


def group_entry(name, steps):
    return {
        "name": name,
        "value": "",
        "type": "",
        "steps": steps + [["group", name]],
        "children": True,
        "attributes": ["readOnly"],
    }


def children(value, steps, group, name, which, part):
    """A part of an object's children: its items come first, then what is named."""
    parent = within(name)
    first = next((step[1] for step in steps if step[0] == "from"), 0)
    steps = [step for step in steps if step[0] not in ("group", "from")]
    items, count = [], 0
    if group is None and which != "named":
        if issubclass(type(value), (dict, *SEQUENCES)):
            count = length_of(value)
            items = items_of(value, steps, parent, slice(first + part.start, part.stop and first + part.stop))
    if which == "indexed" or first or part.stop is not None and part.stop <= count:
        return items
    rest = part_of(max(part.start - count, 0), None if part.stop is None else part.stop - max(part.start, count))
    return items + attributes(value, steps, group, parent)[rest]


def within(name):
    """How a value is written in front of what names a part of it."""
    if not name:
        return name
    try:
        kind = type(compiled_here(name.strip(), "eval", flags=AST_ONLY).body).__name__
    except Exception:
        kind = None
    return name if kind in ("Name", "Attribute", "Subscript", "Call") else f"({name})"


def items_of(value, steps, parent, part):
    entries, is_dict = [], isinstance(value, dict)
    indexable = not isinstance(value, (set, frozenset))
    stop = part.start + MOST_ITEMS if part.stop is None else part.stop
    for place, item in enumerate(some_of(value, part.start, stop), part.start):
        if is_dict:
            where = f"{parent}[{show(item, inner=TEXT_LIMIT)}]" if parent else None
            content = dict.__getitem__(value, item)
            entries.append(describe(show(item, 200), content, steps + [["key", place]], where))
        else:
            where = f"{parent}[{place}]" if parent and indexable else None
            entries.append(describe(str(place), item, steps + [["item", place]], where))
    more = length_of(value) - stop
    if part.stop is None and more > 0:
        entry = {"name": f"[{more} more]", "value": "", "type": "", "steps": [*steps, ["from", stop]]}
        entries.append({**entry, "children": True, "attributes": ["readOnly"]})
    return entries


def length_of(value):
    """How many items a container has, whatever a class of the program's says."""
    return next(base for base in (dict, *SEQUENCES) if issubclass(type(value), base)).__len__(value)


def some_of(value, start, stop):
    """A container's items, or keys, from one place to another."""
    for kind in (list, tuple):
        if isinstance(value, kind):
            return kind.__getitem__(value, slice(start, stop))
    found = []
    for place, item in enumerate(dict.keys(value) if isinstance(value, dict) else value):
        if place >= stop:
            break
        if place >= start:
            found.append(item)
    return found


# So many items of a container are listed where nobody says how many.
MOST_ITEMS = 1000


def attributes(value, steps, group, parent):
    entries, groups = [], []
    plain = type(value) in (dict, list, tuple, set, frozenset)
    is_apart = asks_apart(value)
    if not is_apart:
        names = names_of(value)
    else:
        listed = apart(lambda: "\n".join(names_of(value)))
        names = names_in_dict(value) if listed is None else listed.split("\n")
        if listed is None and group is None:
            entries.append({"name": "dir()", "value": TOO_LONG, "type": "", "steps": steps})
    for name in names:
        where = f"{parent}.{name}" if parent else None
        if is_property(value, name):
            if group is None:
                entries.append(lazy_entry(name, steps, where))
            continue
        if is_apart and apart(lambda: can_get(value, name)) is None:
            if group is None:
                entries.append({"name": name, "value": TOO_LONG, "type": "", "steps": steps})
            continue
        since = given_again()
        try:
            item = getattr(value, name)
        except BaseException as error:
            if group is None:
                entries.append({"name": name, "value": failed_text(error), "type": "", "steps": steps})
            continue
        belongs = group_of(name, item)
        if belongs != group:
            if group is None and belongs not in groups:
                groups.append(belongs)
            continue
        entries.append(describe(name, item, steps + [["attr", name]], where, since))
    heads = group_entries(groups, steps) if not plain or not entries else []
    if group is None and issubclass(type(value), (dict, *SEQUENCES)):
        try:
            length = str(len(value))
        except BaseException as error:
            length = failed_text(error)
        count = {"name": "len()", "value": length, "type": "int", "steps": steps}
        entries.append({**count, "evaluateName": f"len({parent})"} if parent else count)
    return heads + entries


TOO_LONG = "<this takes too long, or ends the process>"


def names_in_dict(value):
    try:
        return sorted(str(name) for name in object.__getattribute__(value, "__dict__"))
    except BaseException:
        return []


def names_of(value):
    try:
        return sorted(str(name) for name in dir(value))
    except BaseException:
        return []


def is_property(value, name):
    if isinstance(value, type):
        return False
    for kind in type(value).__mro__:
        found = kind.__dict__.get(name)
        if found is not None:
            return type(found) is property or type(found).__name__ == "cached_property"
    return False


def lazy_entry(name, steps, where):
    entry = {"name": name, "value": "...", "type": "property", "steps": steps, "children": True, "lazy": True}
    entry["steps"] = steps + [["attr", name]]
    if where is not None:
        entry["evaluateName"] = where
    return entry


def lazily(question, state, exception):
    """The one variable that a lazy entry stands for."""
    value = roots(question, state, exception)
    since = given_again()
    try:
        for step in question["steps"]:
            value = step_into(value, step)
    except BaseException as error:
        return [{"name": "", "value": failed_text(error), "type": "", "steps": question["steps"]}]
    return [describe("", value, question["steps"], question.get("name"), since)]


def exception_info(_question, state, exception):
    if exception is None:
        return None
    kind = type(exception)
    frames = []
    for frame in reversed(frames_of(state["current"], state)):
        frames.append(f'  File "{frame.f_code.co_filename}", line {frame.f_lineno}, in {frame.f_code.co_name}')
    module = kind.__module__
    full = kind.__qualname__ if module == "builtins" else f"{module}.{kind.__qualname__}"
    try:
        message = str(exception)
    except BaseException as error:
        message = f"<str raised {type(error).__name__}>"
    return {"class": full, "message": message, "stack": "\n".join(frames)}


def modules(_question, _state, _exception):
    result = []
    for name, module in list(loaded().items()):
        path = getattr(module, "__file__", None)
        version = getattr(module, "__version__", None)
        entry = {"name": str(name)}
        if isinstance(path, str):
            entry["path"] = path
        if isinstance(version, str):
            entry["version"] = version
        result.append(entry)
    return result


def arguments(question, state, _exception):
    """The values of a function's parameters, as they are now."""
    parameters = parameters_of(find_frame(question, state))
    return [[name, "*** undefined ***" if value is MISSING else show(value)] for name, value in parameters]


def definition(question, state, _exception):
    """Where what an expression means is defined: a function by its first line, a class by its name."""
    frame = find_frame(question, state)
    value = eval(question["expression"], frame.f_globals, frame.f_locals)
    if isinstance(value, type):
        module = loaded().get(value.__module__)
        path = getattr(module, "__file__", None)
        if path is None:
            raise TypeError(f"{value!r} is a built-in class")
        return {"path": path, "name": value.__qualname__, "line": 0}
    for _ in range(100):
        inner = getattr(value, "__func__", None) or getattr(value, "__wrapped__", None) or getattr(value, "fget", None)
        if inner is None:
            break
        value = inner
    code = getattr(value, "__code__", None)
    if code is None:
        raise TypeError(f"module, class, method, or function was expected, got {type(value).__name__}")
    return {"path": code.co_filename, "name": code.co_qualname, "line": code.co_firstlineno}


def code_of_frame(question, state, _exception):
    code = find_frame(question, state).f_code
    return {"path": code.co_filename, "name": code.co_qualname, "line": code.co_firstlineno}


ANSWERS = {
    "threads": threads,
    "stack": stack,
    "scopes": scopes,
    "variables": variables,
    "lazy": lazily,
    "exception": exception_info,
    "modules": modules,
    "arguments": arguments,
    "definition": definition,
    "code": code_of_frame,
}
