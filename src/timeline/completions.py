# What a text can be completed to. Goes on from inspect.py, in the same namespace.

COMPLETION_LIMIT = 300
# So far back from its end a text is looked at for the value whose attributes are asked for.
HEAD_LIMIT = 200
# What may stand before the dot by itself, and within that. Nothing is called: who types has not asked for it.
HEADS = frozenset("Name Attribute Subscript Constant JoinedStr List Dict Set ListComp".split())
CALLS = frozenset("Call Await Yield YieldFrom NamedExpr Lambda".split())
KEYWORDS = frozenset(
    """and as assert async await break class continue def del elif else except finally for from global if import in is
    lambda nonlocal not or pass raise return try while with yield None True False""".split()
)


def completions(question, state, _exception):
    _, names, local = place_of(question, state)
    text = question["text"]
    begin = len(text)
    while begin > 0 and is_word(text[begin - 1]):
        begin -= 1
    tail = text[begin:]
    before = text[:begin].rstrip()
    if before.endswith("."):
        head = head_of(before[:-1])
        if head is None:
            return []
        value = eval(head, names, local)
        kinds = {name: attribute_kind(value, name) for name in names_of(value)}
    else:
        kinds = dict.fromkeys(KEYWORDS, "keyword")
        for scope in (__builtins__, names, local or {}):
            kinds.update((str(name), kind_of(value, "variable", "function")) for name, value in list(scope.items()))
    shows_hidden = tail.startswith("_")
    found = sorted(name for name in kinds if name.startswith(tail) and (shows_hidden or not name.startswith("_")))
    place = {"start": begin, "length": len(tail)}
    return [{"label": name, "type": kinds[name]} | place for name in found[:COMPLETION_LIMIT]]


def head_of(text):
    """The longest expression that a text ends with which can stand before a dot and calls nothing, or None."""
    for begin in range(max(0, len(text) - HEAD_LIMIT), len(text)):
        if begin > 0 and is_word(text[begin - 1]) and is_word(text[begin]):
            continue
        try:
            tree = compile(text[begin:].strip(), "<completion>", "eval", AST_ONLY).body
        except (SyntaxError, ValueError):
            continue
        if type(tree).__name__ in HEADS:
            return None if calls_something(tree) else text[begin:].strip()
    return None


def is_word(character):
    return character.isalnum() or character == "_"


def calls_something(tree):
    if isinstance(tree, list):
        return any(map(calls_something, tree))
    fields = getattr(tree, "_fields", ())
    return type(tree).__name__ in CALLS or any(calls_something(getattr(tree, field)) for field in fields)


def attribute_kind(value, name):
    """What an attribute is, in the protocol's words, found without asking for it."""
    if is_property(value, name):
        return "property"
    kinds = [value, *value.__mro__] if isinstance(value, type) else [value, *type(value).__mro__]
    for holder in kinds:
        own = getattr(holder, "__dict__", None)
        if own is not None and name in own:
            return kind_of(own[name], "field", "function" if type(value) is type(sys) else "method")
    return "field"


def kind_of(value, otherwise, function):
    if isinstance(value, type):
        return "class"
    if isinstance(value, type(sys)):
        return "module"
    if type(value).__name__ in FUNCTIONS or isinstance(value, (staticmethod, classmethod)):
        return function
    return otherwise


ANSWERS["completions"] = completions
