"""`retrace.external`: a Python function as a boundary of its own."""

import _imp
import functools

# As inspect has them; that module is not light.
CO_GENERATOR, CO_COROUTINE, CO_ASYNC_GENERATOR = 0x20, 0x80, 0x200

REFUSED = {
    CO_COROUTINE: "an async function: decorate the function that it awaits, or that it runs in an executor",
    CO_ASYNC_GENERATOR: "an async generator function: decorate a function that returns all of its items",
    CO_GENERATOR: "a generator function: decorate a function that returns all of its items",
}


def external(function):
    """Marks a Python function as outside of what is recorded and replayed: a model's client, a device, a cache.

    A recording has each call as one event: the function, its arguments, and what it returned or raised. Nothing that
    happens inside is recorded, and on replay the call returns the same without running the function. Functions, bound
    methods, generators and iterators that it is given as arguments, and calls, are recorded as callbacks and run on
    replay as well.

    Where nothing is recorded or replayed this returns `function` itself.
    """
    if isinstance(function, (classmethod, staticmethod)):
        return type(function)(external(function.__func__))
    if not isinstance(function, type(external)):
        raise TypeError(f"retrace.external takes a Python function, not {_described(function)}")
    for flag, why in REFUSED.items():
        if function.__code__.co_flags & flag:
            raise TypeError(f"retrace.external: {function.__qualname__} is {why}")
    session = _session()
    return function if session is None else _recorded(session, function)


def _described(thing):
    if isinstance(thing, property):
        return "a property: decorate its getter"
    if isinstance(thing, type):
        return f"the class {thing.__qualname__}: decorate its methods"
    if isinstance(thing, type(len)):
        return (
            f"{thing.__qualname__}, which is written in C: a file that RETRACE_BOUNDARY names can say how it is treated"
        )
    return f"an object of type {type(thing).__qualname__}"


def _session():
    """The recorder's side of this, which it gives to whoever asks for a builtin module of that name; else None."""
    return _imp.create_builtin(type(__spec__)("retrace._session", None))


def _recorded(session, function):
    boundary = session.external(function)

    def call(*args, **kwargs):
        return boundary(*args, **kwargs)

    # No traceback and no walk over the stack shows it.
    session.hide(call.__code__)
    return functools.update_wrapper(call, function)
