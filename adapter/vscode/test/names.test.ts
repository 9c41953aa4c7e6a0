import assert from "node:assert/strict";
import { test } from "node:test";

import { beginningOfFunction, namesOf } from "../src/names";

const textsOf = (...lines: string[]) => namesOf(lines).map((names) => names.map((name) => name.text));

test("names are those of variables", () => {
  const cases: [string, string[]][] = [
    ["    total += parse(text)", ["total", "text"]],
    ["def latest_price(session, api, symbol):", ["session", "api", "symbol"]],
    ["for number in itertools.count(1):", ["number", "itertools"]],
    ["response = session.get(f\"{api}/price\", timeout=10) # the API", ["response", "session", "timeout"]],
    ["x = 'it\\'s ' + y + \"a # b\"", ["x", "y"]],
    ["return data['price'] if data else None", ["data"]],
    ["größe = 0x1f + 1e5", ["größe"]],
    ['"""Says what it does."""', []],
    ["", []],
  ];
  for (const [line, names] of cases) {
    assert.deepEqual(textsOf(line), [names], line);
  }
});

test("a name's column is where it stands", () => {
  const line = "    total += parse(text)";
  const [names] = namesOf([line]);
  assert.equal(names?.length, 2);
  for (const { text, column } of names) {
    assert.equal(line.slice(column, column + text.length), text);
  }
});

test("a string over several lines has no names", () => {
  const lines = ["def f(s):", '    """Takes s', "    and returns it's s", '    """; return s', "x = '''a''' + y"];
  assert.deepEqual(textsOf(...lines), [["s"], [], [], ["s"], ["x", "y"]]);
});

const SOURCE = `\
import json

def outer(items):
    def inner(item):
        return item

    for item in items:
        if item:

            yield inner(item)

print(outer([1]))
`.split("\n");

test("a function begins at its def, over inner ones and blank lines", () => {
  const beginning = (line: number) => beginningOfFunction((index) => SOURCE[index] ?? "", line);
  assert.equal(beginning(9), 2);
  assert.equal(beginning(4), 3);
  assert.equal(beginning(3), 3, "at the def itself");
  assert.equal(beginning(11), undefined, "in no function");
});
