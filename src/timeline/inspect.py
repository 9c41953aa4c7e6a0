# Answers the debugger's questions about a stopped replay. Run by src/timeline/inspect.rs in a copy of the replay that is
# thrown away, in a namespace of its own, which has `sys`. It imports nothing: the program's imports are its own, and there are
# none where the interpreter ends, nor what `sys` had.
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
    try:
        return ANSWERS[question["ask"]](question, state, exception)
    finally:
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
    frame = current_frames().get(ident)  # noqa: F821 (given by inspect.rs)
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
    for place, frame in enumerate(frames):
        code = frame.f_code
        entry = {
            "frame": len(frames) - 1 - place,
            "depth": depth_of(frame),
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


AT_HAND = frozenset((str, bytes, int, float, complex, bool, type(None), type(len), type(sys), type(answer)))
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
        text = run_apart(function)  # noqa: F821 (given by inspect.rs)
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
        text = repr(value)
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


def is_shown_as(kind, base):
    """Whether a subclass has its base's `repr`. A set's says the class."""
    return base in (list, tuple, dict) and kind.__repr__ is base.__repr__


def cut(text, limit):
    """A text, or bytes, without what is too much in its middle."""
    if len(text) <= limit:
        return text
    return text[: limit * 2 // 3] + (b"..." if type(text) is bytes else "...") + text[-(limit // 3) :]


BRACKETS = {list: ("[", "]"), tuple: ("(", ")"), dict: ("{", "}"), set: ("{", "}"), frozenset: ("frozenset({", "})")}


def describe(name, value, steps, evaluate_name=None):
    kind = type(value)
    entry = {"name": name, "value": show(value), "type": kind.__name__, "steps": steps}
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
        return value_of(compiled(question["expression"], code_of(frame)), names, local)
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
    parent = f"({name})" if name and not name.replace("_", "a").replace(".", "a").isalnum() else name
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
        try:
            item = getattr(value, name)
        except BaseException as error:
            if group is None:
                text = f"<{type(error).__name__}: {error}>"
                entries.append({"name": name, "value": text, "type": "", "steps": steps})
            continue
        belongs = group_of(name, item)
        if belongs != group:
            if group is None and belongs not in groups:
                groups.append(belongs)
            continue
        entries.append(describe(name, item, steps + [["attr", name]], where))
    heads = group_entries(groups, steps) if not plain or not entries else []
    if group is None and issubclass(type(value), (dict, *SEQUENCES)):
        try:
            length = str(len(value))
        except BaseException as error:
            length = f"<{type(error).__name__}: {error}>"
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
    try:
        for step in question["steps"]:
            value = step_into(value, step)
    except BaseException as error:
        return [{"name": "", "value": f"<{type(error).__name__}: {error}>", "type": "", "steps": question["steps"]}]
    return [describe("", value, question["steps"], question.get("name"))]


# ---- evaluation ----


class Output:
    """Stands for stdout and stderr while the user's code runs: the recorded program's are the recording's."""

    encoding = "utf-8"

    def __init__(self):
        self.parts = []

    def write(self, text):
        self.parts.append(str(text))
        return len(text)

    def flush(self):
        pass


class Quiet(Output):
    """Stands for them where nobody is told."""

    def write(self, text):
        return len(text)


QUIET = Quiet()


def run_captured(run):
    """What a function returns, or the exception that it raises, and what it prints."""
    output = Output()
    before = streams(output, output)
    result = raised = None
    try:
        result = run()
    except BaseException as error:
        raised = error
    finally:
        streams(*before)
    return result, raised, "".join(output.parts)


def evaluate(question, state, exception):
    source = question["expression"]
    frame, names, local = place_of(question, state)

    owner = class_of(code_of(frame))
    code = parsed(source.strip(), "eval", owner)
    is_statement = type(code) is not CODE and question.get("statements")
    if is_statement:
        code = parsed(source, "exec", owner)
    if type(code) is not CODE:
        raise code

    def run():
        if not is_statement:
            return value_of(code, names, local)
        try:
            run_statement(code, names, local)
        finally:
            # What has failed did what comes before.
            if frame is not None:
                write_back(frame)

    lasts = is_statement or question.get("statements") and may_change(source, names, local)
    value, raised, output = run_captured(run)
    if raised is not None:
        return {"raised": said_by(raised), "output": output, "statement": is_statement, "lasts": lasts}
    if is_statement:
        return {"value": "", "type": "", "output": output, "statement": True, "lasts": True}
    entry = describe(source, value, [], source)
    entry["output"] = output
    entry["lasts"] = lasts
    if question.get("full"):
        entry["value"] = value if isinstance(value, str) else repr(value)
    if question.get("form"):
        entry["value"] = FORMS[question["form"]](value)
    return entry


def parsed(source, mode, owner):
    """The code of a text, or the error that there is none. Nothing is being handled when that is run: the program may have an
    exception there that it handles."""
    try:
        return compiled_in(owner, source, mode)
    except SyntaxError as error:
        return unplaced(error)


def said_by(error):
    try:
        text = str(error)
    except BaseException:
        text = ""
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


# What calls of these do is over when they have returned, as a rule.
ASKING = frozenset(
    """abs all any ascii bin bool bytes callable chr dict dir enumerate float format frozenset getattr hasattr hash hex id int
    isinstance issubclass len list max min oct ord range repr reversed round set sorted str sum tuple type vars zip""".split()
)


def may_change(source, names, local):
    """Whether an expression may be there for what it does: it calls something, or gives a name a value."""
    todo = [compiled_here(source.strip(), "eval", flags=AST_ONLY)]
    while todo:
        node = todo.pop()
        kind = type(node).__name__
        if kind in ("NamedExpr", "Await", "Yield", "YieldFrom"):
            return True
        if kind == "Call":
            name = getattr(node.func, "id", None)
            if name not in ASKING or name in names or local is not None and name in local:
                return True
        for field in node._fields:
            value = getattr(node, field, None)
            todo.extend(item for item in (value if type(value) is list else [value]) if hasattr(item, "_fields"))
    return False


class WithoutTables:
    """Stands for `unicodedata` where the program has not imported it, which can't be done here: the compiler has it bring names
    that are not ASCII into one form, which they have been written in, as a rule."""

    @staticmethod
    def normalize(_form, text):
        return text


def compiled_here(source, mode, path="<evaluation>", flags=0):
    modules = loaded()
    lacks = type(source) is str and not source.isascii() and "unicodedata" not in modules
    if lacks:
        modules["unicodedata"] = WithoutTables
    try:
        return compile(source, path, mode, flags, dont_inherit=True)
    finally:
        if lacks:
            del modules["unicodedata"]


def class_of(code):
    """The name of the class that a code is written in, or ""."""
    parts = code.co_qualname.split(".") if code is not None else [""]
    found = [one for one, next_one in zip(parts, parts[1:]) if "<locals>" not in (one, next_one)]
    return found[-1] if found else ""


def code_of(frame):
    return None if frame is None else frame.f_code


def compiled_in(owner, source, mode):
    """What is written in a class has the class's name in its private names (`self.__x`)."""
    if not owner.strip("_") or "__" not in source:
        return compiled_here(source, mode)
    tree = compiled_here(source, mode, flags=AST_ONLY)
    todo = [tree]
    while todo:
        node = todo.pop()
        for field in node._fields:
            value = getattr(node, field, None)
            is_name = field in ("id", "attr", "arg") and type(value) is str and type(node).__name__ != "keyword"
            if is_name and value.startswith("__") and not value.endswith("__"):
                setattr(node, field, f"_{owner.lstrip('_')}{value}")
            todo.extend(item for item in (value if type(value) is list else [value]) if hasattr(item, "_fields"))
    return compiled_here(tree, mode)


def names_for(code, names, local):
    """The globals to run code with. A function in it, as a lambda or a comprehension is, finds a frame's variables only as
    globals."""
    if local is None or local is names or not any(type(constant) is CODE for constant in code.co_consts):
        return names
    return {**names, **local}


CODE = type(names_for.__code__)


def value_of(code, names, local):
    return eval(code, names_for(code, names, local), local)


def run_statement(code, names, local):
    scope = names_for(code, names, local)
    known = () if scope is names else set(local)
    exec(code, scope, local)
    if scope is not names:
        names.update({name: value for name, value in scope.items() if name not in known})


def unplaced(error):
    """A syntax error without its place, which is in what the user has just written."""
    return type(error)(error.msg)


WIDTH = 80


def pretty(value, indent=0, room=WIDTH):
    """A value's `repr`, with containers over several lines where it is long; as `pprint` does."""
    kind = type(value)
    text = repr(value)
    if kind not in BRACKETS or len(text) <= room or not value:
        return text
    begin, end = BRACKETS[kind]
    inner = indent + len(begin)
    parts = []
    for item in in_order(value) if kind in (dict, set, frozenset) else value:
        head = f"{item!r}: " if kind is dict else ""
        at = inner + len(head)
        parts.append(head + pretty(value[item] if kind is dict else item, at, WIDTH - at - len(end)))
    last = "," if kind is tuple and len(parts) == 1 else ""
    return begin + (",\n" + " " * inner).join(parts) + last + end


def in_order(items):
    try:
        return sorted(items)
    except TypeError:
        return list(items)


def whatis(value):
    """What pdb says of a value."""
    kind = type(value)
    if kind.__name__ in ("function", "method"):
        code = getattr(value, "__code__", None)
        return f"{kind.__name__.capitalize()} {getattr(code, 'co_name', '?')}"
    if kind is type:
        return f"Class {value.__module__}.{value.__qualname__}"
    return repr(kind)


FORMS = {"repr": repr, "pretty": pretty, "whatis": whatis}


def place_of(question, state):
    """The frame of a question, its globals and its locals. Without a frame, the globals of the module that the thread is in."""
    if question.get("frame") is not None:
        frame = find_frame(question, state)
        return frame, frame.f_globals, frame.f_locals
    frames = frames_of(question["thread"], state)
    return None, frames[0].f_globals if frames else vars(loaded()["__main__"]), None


def write_back(frame):
    """Puts what changed in `f_locals` into the frame."""
    locals_to_fast(frame)  # noqa: F821 (given by inspect.rs)


def assign(question, state, exception):
    frame, names, local = place_of(question, state)
    value = value_of(compiled(question["value"], code_of(frame)), names, local)
    steps = [step for step in question["steps"] if step[0] not in ("group", "from")]
    target = roots(question, state, exception)
    root = question["root"]
    name = question["name"]
    for step in steps:
        target = step_into(target, step)
    if not steps and root in ("locals", "closure"):
        frame.f_locals[name] = value
        write_back(frame)
    elif not steps and root == "globals":
        frame.f_globals[name] = value
    else:
        value = put(target, name, value)
    return describe(name, value, [])


def put(target, name, value):
    """Gives what is shown by a name in an object another value. Returns what is there then: a property may make something else
    of it."""
    if isinstance(target, dict):
        FORMAT["hex"], wanted = False, FORMAT["hex"]
        names = [(key, show(key, 200)) for key in dict.keys(target)]
        FORMAT["hex"] = wanted
        for key, text in names:
            if name in (text, show(key, 200)):
                target[key] = value
                return value
    elif isinstance(target, SEQUENCES) and name.isdigit():
        if isinstance(target, (set, frozenset)):
            raise TypeError(f"an item of a {type(target).__name__} has no place to be set")
        target[int(name)] = value
        return value
    if not name.isidentifier():
        raise AttributeError(f"{name} can't be set")
    setattr(target, name, value)
    return getattr(target, name, value)


def set_expression(question, state, _exception):
    frame = find_frame(question, state)
    local = frame.f_locals
    expression = question["expression"]
    code = compiled_in(class_of(frame.f_code), f"{expression} = {question['value']}", "exec")
    run_statement(code, frame.f_globals, local)
    write_back(frame)
    value = value_of(compiled(expression, frame.f_code), frame.f_globals, local)
    return describe(expression, value, [])


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


def owner(question, state, _exception):
    """The frame that what an expression means in a frame belongs to: of a closure's variable, the call that made it."""
    frame = find_frame(question, state)
    code = frame.f_code
    names = names_used(compiled(question["expression"], code)).intersection(code.co_freevars)
    if not names:
        return question["frame"]
    frames = frames_of(question["thread"], state)
    for number, outer in enumerate(reversed(frames)):
        if number >= question["frame"]:
            break
        is_around = code.co_qualname.startswith(f"{outer.f_code.co_qualname}.<locals>.")
        if is_around and names.issubset(outer.f_code.co_cellvars) and all(same_in(frame, outer, name) for name in names):
            return number
    raise LookupError(f"{', '.join(sorted(names))}: a variable of a call that has ended, or is another thread's, can't be watched")


def same_in(frame, outer, name):
    return frame.f_locals.get(name, MISSING) is outer.f_locals.get(name, MISSING)


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


AST_ONLY = 0x400


def block(question, _state, _exception):
    """The first and last line of a function or class of a source, by what `definition` says of it."""
    todo = [("", compiled_here(question["source"], "exec", question["path"], AST_ONLY))]
    while todo:
        outer, node = todo.pop()
        name = getattr(node, "name", None)
        if isinstance(name, str) and hasattr(node, "body") and hasattr(node, "decorator_list"):
            first = min([node.lineno] + [decorator.lineno for decorator in node.decorator_list])
            is_class = type(node).__name__ == "ClassDef"
            if first == question["line"] or is_class and not question["line"] and outer + name == question["name"]:
                return [first, node.end_lineno]
            outer += name + ("." if is_class else ".<locals>.")
        for field in node._fields:
            value = getattr(node, field, None)
            below = value if isinstance(value, list) else [value]
            todo.extend((outer, child) for child in below if hasattr(child, "_fields"))
    return None


# ---- at a line that runs: called once for each hit ----

COMPILED = {}


def compiled(expression, inside):
    """The code of an expression in another code, or None."""
    owner = class_of(inside) if "__" in expression else ""
    code = COMPILED.get((expression, owner))
    if code is None:
        code = COMPILED[expression, owner] = compiled_in(owner, expression.strip(), "eval")
    return code


# What looks at the frame that it is called in.
LOOKING = frozenset(("locals", "vars", "dir", "eval", "exec", "super", "_getframe", "currentframe"))


def names_used(code):
    names = {*code.co_names, *code.co_varnames, *code.co_cellvars, *code.co_freevars}
    for constant in code.co_consts:
        if type(constant) is CODE:
            names |= names_used(constant)
    return names


def expression_function(expression, code):
    """The code of an expression as a function of variables of a frame, where in the frame these are, and None; None for all
    where that won't do. `code` is the frame's, or None where all names are globals."""
    used = names_used(compiled(expression, code))
    if used & LOOKING:
        return None
    wanted = []
    if code is not None:
        places = (*code.co_varnames, *(name for name in code.co_cellvars if name not in code.co_varnames), *code.co_freevars)
        wanted = [(name, place) for place, name in enumerate(places) if name in used]
        if any(not name.isidentifier() for name, _ in wanted):
            return None
    source = f"lambda {', '.join(name for name, _ in wanted)}: (\n{expression.strip()}\n)"
    made = eval(compiled_in(class_of(code), source, "eval"), {})
    return [made.__code__, [place for _, place in wanted], None]


def condition(expression):
    frame = sys._getframe(1)
    return "True" if value_of(compiled(expression, frame.f_code), frame.f_globals, frame.f_locals) else "False"


def parts_of(template):
    """The texts of a message with `{expression}` parts, and the expressions behind all of them but the last."""
    texts, expressions, rest = [], [], template
    while True:
        head, brace, tail = rest.partition("{")
        texts.append(head)
        if not brace:
            return texts, expressions
        expression, _, rest = tail.partition("}")
        expressions.append(expression)


def joined(texts, values):
    values = [cut(str.__str__(value), TEXT_LIMIT) if isinstance(value, str) else show(value) for value in values]
    return "".join([part for pair in zip(texts, [*values, ""]) for part in pair])


def log(template):
    frame = sys._getframe(1)
    texts, expressions = parts_of(template)
    return joined(texts, [value_of(compiled(e, frame.f_code), frame.f_globals, frame.f_locals) for e in expressions])


def message_function(template, code):
    """As `expression_function`, for the values in what a log point says, and the texts between them."""
    texts, expressions = parts_of(template)
    for expression in expressions:
        compiled(expression, code)
    values = "(" + "".join(f"(\n{expression.strip()}\n)," for expression in expressions) + ")"
    found = expression_function(values, code)
    return found and [*found[:2], texts]


def names_at(frame, depth, function, module):
    """The globals and locals of the frame of that function that is `depth` from below, 0 for this one, and its code; or of a
    module."""
    if depth:
        frames = []
        while frame is not None:
            frames.append(frame)
            frame = frame.f_back
        if len(frames) < depth:
            return None
        frame = frames[len(frames) - depth]
        if frame.f_code.co_qualname != function:
            return None
    if module:
        found = loaded().get(module)
        return found and (found.__dict__, found.__dict__, None)
    return frame.f_globals, frame.f_locals, frame.f_code


def watch_condition(expression, depth, function, module):
    """Whether a condition is true where `watch` looks."""
    names = names_at(sys._getframe(1), depth, function, module)
    return "True" if names and value_of(compiled(expression, names[2]), *names[:2]) else "False"


def watch(expression, depth, function, module):
    """What an expression shows there; None where it has no meaning."""
    names = names_at(sys._getframe(1), depth, function, module)
    if names is None:
        return None
    try:
        value = value_of(compiled(expression, names[2]), *names[:2])
    except Exception as error:
        return f"<{type(error).__name__}: {error}>" if str(error) else f"<{type(error).__name__}>"
    return watched_text(value)


# What of a long value is compared.
WATCHED_LIMIT = 100_000


def watched_text(value):
    """What is shown; behind it what else tells one value from another, in any run, and in this one."""
    whole = show(value, WATCHED_LIMIT, TEXT_LIMIT)
    text = whole if len(whole) <= TEXT_LIMIT else whole[:TEXT_LIMIT] + "..."
    kind = type(value)
    if kind is str or kind is bytes:
        text = f"{show(value)}\1{hash(value)}" if len(value) > TEXT_LIMIT else text
    elif len(whole) > TEXT_LIMIT or kind in BRACKETS and len(value) > ITEM_LIMIT:
        text = f"{text}\1{hash(whole)} {len(value) if kind in BRACKETS else 0}"
    # Two objects that are shown alike are two.
    return f"{text}\0{id(value)}" if "0x?" in whole else text


ANSWERS = {
    "threads": threads,
    "stack": stack,
    "scopes": scopes,
    "variables": variables,
    "lazy": lazily,
    "evaluate": evaluate,
    "assign": assign,
    "set_expression": set_expression,
    "exception": exception_info,
    "modules": modules,
    "arguments": arguments,
    "owner": owner,
    "definition": definition,
    "code": code_of_frame,
    "block": block,
}
