# What an exception has besides its value: where it came from, and what it came of. The code that raised it is not there
# on replay; tracebacks look the same all the same. Run by src/external_function.rs in a namespace of its own.
import sys

DEPTH = 16


def describe(exception, depth=0):
    """The traceback, and the exceptions behind this one with theirs, up to one that the caller is handling."""
    if exception is None or exception is sys.exception() or depth == DEPTH:
        return None
    behind = [exception.__cause__, exception.__context__]
    if behind[0] is behind[1]:
        behind[1] = None
    described = [(other, describe(other, depth + 1)) for other in behind]
    chain = [(None, None) if what is None else (other, what) for other, what in described]
    return places(exception.__traceback__), chain, exception.__suppress_context__


def places(traceback):
    found = []
    while traceback is not None:
        code = traceback.tb_frame.f_code
        module = traceback.tb_frame.f_globals.get("__name__")
        position = list(code.co_positions())[max(traceback.tb_lasti, 0) // 2]
        names = code.co_filename, code.co_name, code.co_qualname
        found.append((*names, module, code.co_firstlineno, traceback.tb_lineno, position))
        traceback = traceback.tb_next
    return found


def restore(exception, description):
    found, ((cause, of_cause), (context, of_context)), suppress = description
    if cause is not None:
        restore(cause, of_cause)
        exception.__cause__ = exception.__context__ = cause
    if context is not None:
        restore(context, of_context)
        exception.__context__ = context
    elif cause is None and exception is not sys.exception():
        exception.__context__ = sys.exception()
    exception.__suppress_context__ = suppress
    traceback = None
    for place in reversed(found):
        traceback = at(traceback, *place)
    exception.__traceback__ = traceback


def here(getframe):
    return getframe()


def at(following, filename, name, qualname, module, first, line, position):
    """A traceback's entry, of a frame whose code does nothing but say that it is there."""
    code = here.__code__
    code = code.replace(
        co_filename=filename,
        co_name=name,
        co_qualname=qualname,
        co_firstlineno=first,
        co_linetable=line_table(len(code.co_code) // 2, first, position),
    )
    namespace = vars(sys.modules[module]) if module in sys.modules else {"__name__": module}
    frame = type(here)(code, namespace)(sys._getframe)
    return type_of_traceback(following, frame, 0, line)


def line_table(units, first, position):
    """One position for all of a code's instructions (Objects/locations.md in CPython's sources)."""
    line, end_line, column, end_column = position
    table = bytearray()
    before = first
    for start in range(0, units, 8):
        length = min(8, units - start) - 1
        if line is None:
            table.append(0x80 | 15 << 3 | length)
            continue
        delta = line - before
        has_columns = None not in (end_line, column, end_column)
        table.append(0x80 | (14 if has_columns else 13) << 3 | length)
        table += varint(-delta << 1 | 1 if delta < 0 else delta << 1)
        if has_columns:
            table += varint(end_line - line) + varint(column + 1) + varint(end_column + 1)
        before = line
    return bytes(table)


def varint(number):
    written = bytearray()
    while number > 63:
        written.append(0x40 | number & 63)
        number >>= 6
    written.append(number)
    return written


try:
    raise ValueError
except ValueError as error:
    type_of_traceback = type(error.__traceback__)
