# Code of the user's own: what is evaluated once, and at each hit of a line. Goes on from inspect.py, in the same namespace.


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

    def isatty(self):
        return False


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


class Library:
    """Finds and loads what the program has not imported of the standard library and of installed packages, without the calls that
    would leave the replay."""

    def __init__(self, source, path):
        self.code = compiled_here(source, "exec", path)

    @classmethod
    def find_spec(cls, name, path=None, _target=None):
        last = name.rpartition(".")[2]
        for folder in map(str, sys.path if path is None else path):
            # The program's own files may be others by now.
            if is_mine(f"{folder}/{last}.py"):
                continue
            if folder not in cls.folders:
                cls.folders[folder] = library_folder(folder)
            found = cls.folders[folder]
            for place, is_package in ((f"{last}/__init__.py", True), (f"{last}.py", False)):
                source = library_file(f"{folder}/{place}") if place.partition("/")[0] in found else None
                if source is not None:
                    return cls.spec(name, f"{folder}/{place}", cls(source, f"{folder}/{place}"), is_package)
            for suffix in sys.modules["_imp"].extension_suffixes():
                if last + suffix in found:
                    place = f"{folder}/{last}{suffix}"
                    loader = sys.modules["_frozen_importlib_external"].ExtensionFileLoader(name, place)
                    return cls.spec(name, place, loader, False)
        return None

    @classmethod
    def begin(cls):
        """Takes the place of the importer that looks into folders. Returns what puts that back."""
        cls.folders = {}
        paths = getattr(loaded().get("_frozen_importlib_external"), "PathFinder", None)
        if paths is None:
            return lambda: None
        before = vars(paths)["find_spec"]
        paths.find_spec = cls.find_spec
        return lambda: setattr(paths, "find_spec", before)

    @staticmethod
    def spec(name, path, loader, is_package):
        spec = type(sys.__spec__)(name, loader, origin=path, is_package=is_package)
        spec.has_location = True
        if is_package:
            spec.submodule_search_locations.append(path.rpartition("/")[0])
        return spec

    def create_module(self, _spec):
        return None

    def exec_module(self, module):
        exec(self.code, vars(module))


def evaluate(question, state, exception):
    source = question["expression"]
    frame, names, local = place_of(question, state)
    around = class_of(code_of(frame))
    code = parsed(source.strip(), "eval", around)
    is_statement = type(code) is not CODE and question.get("statements")
    if is_statement:
        code = parsed(source, "exec", around)
    if type(code) is not CODE:
        raise code

    def run():
        if not is_statement:
            return value_of(code, names, local)
        own = set(local) if local and frame is not None and frame.f_code.co_flags & OPTIMIZED else set()
        try:
            run_statement(code, names, local)
        finally:
            # What has failed did what comes before.
            if frame is not None:
                write_back(frame)
        if own and (kept := own.difference(local)):
            raise RuntimeError(f"{', '.join(sorted(kept))}: a function's variable cannot be deleted from here, and is kept")

    lasts = is_statement or question.get("statements") and may_change(source, names, local)
    since = given_again()
    value, raised, output = run_captured(run)
    if raised is not None:
        return {"raised": said_by(raised), "output": output, "statement": is_statement, "lasts": lasts}
    if is_statement:
        return {"value": "", "type": "", "output": output, "statement": True, "lasts": True}
    entry = describe(source, value, [], source, since)
    entry["output"] = output
    entry["lasts"] = lasts
    if question.get("full"):
        entry["value"] = value if isinstance(value, str) else repr_of(value)
    if question.get("form"):
        entry["value"] = FORMS[question["form"]](value)
    return entry


OPTIMIZED = 0x1  # inspect.CO_OPTIMIZED


def parsed(source, mode, around):
    """The code of a text, or the error that there is none. Nothing is being handled when that is run: the program may have an
    exception there that it handles."""
    try:
        return compiled_in(around, source, mode)
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
    for node in nodes_of(compiled_here(source.strip(), "eval", flags=AST_ONLY)):
        kind = type(node).__name__
        if kind in ("NamedExpr", "Await", "Yield", "YieldFrom"):
            return True
        if kind == "Call":
            name = getattr(node.func, "id", None)
            if name not in ASKING or name in names or local is not None and name in local:
                return True
    return False


AST_ONLY = 0x400  # ast.PyCF_ONLY_AST


def nodes_of(tree):
    """A syntax tree's nodes, each before what is in it."""
    todo = [tree]
    while todo:
        node = todo.pop()
        yield node
        for field in node._fields:
            todo.extend(below(node, field))


def below(node, field):
    """The nodes that a node has in one of its fields."""
    value = getattr(node, field, None)
    return [child for child in (value if type(value) is list else [value]) if hasattr(child, "_fields")]


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


def compiled_in(around, source, mode):
    """What is written in a class has the class's name in its private names (`self.__x`)."""
    if not around.strip("_") or "__" not in source:
        return compiled_here(source, mode)
    tree = compiled_here(source, mode, flags=AST_ONLY)
    for node in nodes_of(tree):
        for field in {"id", "attr", "arg"}.intersection(node._fields):
            name = getattr(node, field)
            is_name = type(name) is str and type(node).__name__ != "keyword"
            if is_name and name.startswith("__") and not name.endswith("__"):
                setattr(node, field, f"_{around.lstrip('_')}{name}")
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


def value_in(expression, code, names, local):
    """The value of an expression in a frame, by the frame's code, globals and locals."""
    return value_of(compiled(expression, code), names, local)


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
    text = repr_of(value)
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


FORMS = {"repr": repr_of, "pretty": pretty, "whatis": whatis}


def write_back(frame):
    """Puts what changed in `f_locals` into the frame."""
    locals_to_fast(frame)


def assign(question, state, exception):
    frame, names, local = place_of(question, state)
    value = value_in(question["value"], code_of(frame), names, local)
    steps = [step for step in question["steps"] if step[0] not in ("group", "from")]
    target = roots(question, state, exception)
    root = question["root"]
    name = question["name"]
    for step in steps:
        target = step_into(target, step)
    step, where = ["item", name], name
    if not steps and root in ("locals", "closure"):
        frame.f_locals[name] = value
        write_back(frame)
    elif not steps and root == "globals":
        frame.f_globals[name] = value
    else:
        value, step, behind = put(target, name, value)
        parent = within(question.get("parent"))
        where = parent and parent + behind
    return describe(name, value, [*steps, step], where)


def put(target, name, value):
    """Gives what is shown by a name in an object another value. Returns what is there then, as a property may make something
    else of it; the way to it, and how that is written."""
    if isinstance(target, dict):
        FORMAT["hex"], wanted = False, FORMAT["hex"]
        names = [(key, show(key, 200)) for key in dict.keys(target)]
        FORMAT["hex"] = wanted
        for place, (key, text) in enumerate(names):
            if name in (text, show(key, 200)):
                target[key] = value
                return value, ["key", place], f"[{show(key, inner=TEXT_LIMIT)}]"
    elif isinstance(target, SEQUENCES) and name.isdigit():
        if isinstance(target, (set, frozenset)):
            raise TypeError(f"an item of a {type(target).__name__} has no place to be set")
        target[int(name)] = value
        return value, ["item", int(name)], f"[{name}]"
    if not name.isidentifier():
        raise AttributeError(f"{name} can't be set")
    setattr(target, name, value)
    return getattr(target, name, value), ["attr", name], f".{name}"


def set_expression(question, state, _exception):
    frame = find_frame(question, state)
    local = frame.f_locals
    expression = question["expression"]
    code = compiled_in(class_of(frame.f_code), f"{expression} = {question['value']}", "exec")
    run_statement(code, frame.f_globals, local)
    write_back(frame)
    return describe(expression, value_in(expression, frame.f_code, frame.f_globals, local), [], expression)


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


# ---- at a line that runs: called once for each hit ----

COMPILED = {}


def compiled(expression, inside):
    """The code of an expression in another code, or None."""
    around = class_of(inside) if "__" in expression else ""
    code = COMPILED.get((expression, around))
    if code is None:
        code = COMPILED[expression, around] = compiled_in(around, expression.strip(), "eval")
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
    return "True" if value_in(expression, *scope_of(frame_at(1))) else "False"


def scope_of(frame):
    return frame.f_code, frame.f_globals, frame.f_locals


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
    scope = scope_of(frame_at(1))
    texts, expressions = parts_of(template)
    return joined(texts, [value_in(expression, *scope) for expression in expressions])


def message_function(template, code):
    """As `expression_function`, for the values in what a log point says, and the texts between them."""
    texts, expressions = parts_of(template)
    for expression in expressions:
        compiled(expression, code)
    values = "(" + "".join(f"(\n{expression.strip()}\n)," for expression in expressions) + ")"
    found = expression_function(values, code)
    return found and [*found[:2], texts]


def scope_at(frame, depth, function, module):
    """The code, globals and locals of the frame of that function that is `depth` from below, 0 for this one; or of a module.
    None where there is no such thing."""
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
        return found and (None, found.__dict__, found.__dict__)
    return scope_of(frame)


def watch_condition(expression, depth, function, module):
    """Whether a condition is true where `watch` looks."""
    scope = scope_at(frame_at(1), depth, function, module)
    return "True" if scope and value_in(expression, *scope) else "False"


def watch(expression, depth, function, module):
    """What an expression shows there; None where it has no meaning."""
    scope = scope_at(frame_at(1), depth, function, module)
    if scope is None:
        return None
    try:
        return watched_text(value_in(expression, *scope))
    except Exception as error:
        return f"<{said_by(error)}>"


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


ANSWERS.update(evaluate=evaluate, assign=assign, set_expression=set_expression, owner=owner)
