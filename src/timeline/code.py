# Code: where breakpoints can be, what a line calls, and instructions. Goes on from inspect.py, in the same namespace.


def codes_of(question):
    """All code objects of a source, outer ones first."""
    found = [compiled_here(question["source"], "exec", question["path"])]
    for code in found:
        found.extend(constant for constant in code.co_consts if isinstance(constant, type(code)))
    return found


def lines(question, _state, _exception):
    """The lines of a source that a breakpoint can be on."""
    return sorted({line for code in codes_of(question) for _, _, line in code.co_lines() if line})


def functions(question, _state, _exception):
    """The name and the qualified name of all code of a source, and whether that is the user's."""
    mine = is_mine(question["path"])
    return [[code.co_name, code.co_qualname, mine] for code in codes_of(question)]


def frozen_functions(_question, _state, _exception):
    """The file, the name and the qualified name of all code that the interpreter has in itself."""
    module = sys.modules["_imp"]
    found = []
    for name in module._frozen_module_names():
        if module.is_frozen(name):
            found.append(module.get_frozen_object(name))
    for code in found:
        found.extend(constant for constant in code.co_consts if isinstance(constant, type(code)))
    return [[code.co_filename, code.co_name, code.co_qualname] for code in found]


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
            todo.extend((outer, child) for child in below(node, field))
    return None


# ---- columns ----


def locations(question, _state, _exception):
    """Where in some lines a breakpoint can be: the line, the columns from 0 to show it at, in UTF-16 units, and that of its
    first instruction in bytes; None for the line's own beginning."""
    first, last = question["first"], question["last"]
    tables = [list(code.co_positions()) for code in codes_of(question)]
    text = question["source"].split("\n")
    found, begins = {}, {}
    for node, is_statement in places_of(question, first, last):
        begin, end = (node.lineno, node.col_offset), (node.end_lineno, node.end_col_offset)
        place = first_within(tables, begin, end)
        if place is None or not first <= place[0] <= last:
            continue
        line, column = place
        entry = [line, units(text, node.lineno, node.col_offset), units(text, *end), column, end[0]]
        if begins.setdefault(line, column) == column and is_statement:
            entry[3] = None
        found.setdefault((line, column), entry)
    return sorted(found.values(), key=lambda entry: entry[:3])


def places_of(question, first, last):
    """The statements in some lines, then calls and what lambdas and comprehensions evaluate there."""
    todo, statements, others = [compiled_here(question["source"], "exec", question["path"], AST_ONLY)], [], []
    while todo:
        node = todo.pop(0)
        for field in node._fields:
            found = below(node, field)
            todo.extend(found)
            if field == "elt" or field == "key" or type(node).__name__ == "Lambda" and field == "body":
                others.extend(found)
            elif isinstance(getattr(node, field), list) and field in ("body", "orelse", "finalbody"):
                statements.extend(child for child in found if hasattr(child, "lineno"))
            others.extend(child for child in found if type(child).__name__ == "Call")
    wanted = lambda node: node.lineno <= last and node.end_lineno >= first  # noqa: E731
    ordered = sorted(filter(wanted, statements), key=lambda node: (node.lineno, node.col_offset))
    return [(node, True) for node in ordered] + [(node, False) for node in filter(wanted, others)]


def first_within(tables, begin, end):
    """The line and column of the first instruction of a part of the source, in the outermost code that has any."""
    for table in tables:
        for line, end_line, column, end_column in table:
            if column is not None and begin <= (line, column) and (end_line, end_column) <= end:
                return line, column
    return None


def units(text, line, column):
    """A column in bytes as one in UTF-16 units."""
    return sum(1 + (character > "\uffff") for character in text[line - 1].encode()[:column].decode(errors="replace"))


def offsets(code, place):
    """The instructions that begin what is at a line and column. A `finally` has them more than once."""
    line, column = place
    found, first, before = [], None, None
    for number, position in enumerate(code.co_positions()):
        if position != before and position[0] == line and position[2] == column:
            first = first or position
            if position == first:
                found.append(2 * number)
        before = position
    return found


# ---- instructions ----


def opcodes():
    """The names of the standard library's module `opcode`, which need not have been imported."""
    if not OPCODES:
        def nothing(name, *_):
            raise ImportError(name)

        OPCODES["__builtins__"] = {**__builtins__, "__import__": nothing}
        exec(compile(library_file("opcode.py"), "<retrace>", "exec"), OPCODES)
    return OPCODES


OPCODES = {}


def instructions_of(code):
    """(offset, opcode, argument) of each instruction."""
    raw, extended, more = code.co_code, 0, opcodes()["EXTENDED_ARG"]
    for offset in range(0, len(raw), 2):
        opcode, argument = raw[offset], raw[offset + 1] | extended
        # Cache entries belong to the instruction before.
        if opcode:
            extended = argument << 8 if opcode == more else 0
            yield offset, opcode, argument


def argument_text(code, offset, opcode, argument):
    known = opcodes()
    name = known["opname"][opcode]
    argument_of = argument >> dict(argument_shifts).get(name, 0)
    if opcode in known["hasconst"]:
        return show(code.co_consts[argument], 200)
    if opcode in known["hasname"]:
        return code.co_names[argument_of]
    if opcode in known["haslocal"] or opcode in known["hasfree"]:
        return code._varname_from_oparg(argument)
    if opcode in known["hascompare"]:
        return known["cmp_op"][argument_of]
    if opcode in known["hasjrel"]:
        way = -argument if "JUMP_BACKWARD" in name else argument
        return f"to {offset + 2 + 2 * known['_inline_cache_entries'][opcode] + 2 * way}"
    if name == "BINARY_OP":
        return known["_nb_ops"][argument][1]
    return str(argument) if opcode >= known["HAVE_ARGUMENT"] else ""


def code_at(address, state):
    """The code object of a frame, or of what it has inside, that has an address."""
    codes = [frame.f_code for thread, _ in state["threads"] for frame in frames_of(thread, state)]
    for code in codes:
        if id(code) <= address < id(code) + len(code.co_code):
            return code
        codes.extend(constant for constant in code.co_consts if isinstance(constant, type(code)))
    return None


def disassemble(question, state, _exception):
    """So many instructions from a distance of one at an address."""
    address, count = question["address"] + question["offset"], question["count"]
    code = code_at(address, state)
    if code is None:
        raise ValueError("no code that runs here has this address")
    table, positions = list(instructions_of(code)), list(code.co_positions())
    offset = address - id(code)
    here = max((place for place, entry in enumerate(table) if entry[0] <= offset), default=0)
    result, line = [], None
    for place in range(here + question["distance"], here + question["distance"] + count):
        if not 0 <= place < len(table):
            # No code comes before or behind this one.
            beyond = place if place < 0 else len(code.co_code) // 2 + place - len(table)
            result.append({"address": id(code) + 2 * beyond})
            continue
        offset, opcode, argument = table[place]
        text = f"{opcodes()['opname'][opcode]:<24}{argument_text(code, offset, opcode, argument)}".rstrip()
        entry = {"address": id(code) + offset, "text": f"{offset:>4} {text}", "function": code.co_qualname}
        position = positions[offset // 2]
        if position[0] and position[0] != line:
            line = position[0]
            entry["place"] = [code.co_filename, *position]
        result.append(entry)
    return result


def calls(question, state, _exception):
    """What the rest of a frame's line calls, in order: where the frame stands, the instruction and the one behind it, and its
    place in the source."""
    frame = find_frame(question, state)
    code, at = frame.f_code, frame.f_lasti
    table, positions = list(instructions_of(code)), list(code.co_positions())
    found = []
    for place, (offset, opcode, _) in enumerate(table):
        name = opcodes()["opname"][opcode]
        line, *rest = positions[offset // 2]
        is_call = name.startswith("CALL") and not name.startswith("CALL_INTRINSIC")
        if is_call and offset >= at and frame.f_lineno in range(line or 0, (rest[0] or 0) + 1):
            end = table[place + 1][0] if place + 1 < len(table) else len(code.co_code)
            found.append({"from": at, "begin": offset, "end": end, "place": [line, *rest]})
    return found


ANSWERS.update(lines=lines, functions=functions, frozen_functions=frozen_functions, block=block)
ANSWERS.update(locations=locations, disassemble=disassemble, calls=calls)
