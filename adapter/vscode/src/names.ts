/** Which names of a Python source's lines may have a value to show. */

const KEYWORDS = new Set(
  (
    "False None True and as assert async await break class continue def del elif else except finally for from global " +
    "if import in is lambda nonlocal not or pass raise return try while with yield self cls"
  ).split(" "),
);

/** A string that goes on to its end or to that of the line, a comment, an attribute, a number, or a name not called. */
const TOKEN = new RegExp(
  [
    /[rbfu]{0,2}(?<quotes>"""|''')/iu,
    /[rbfu]{0,2}"(?:\\.|[^"\\])*"?/iu,
    /[rbfu]{0,2}'(?:\\.|[^'\\])*'?/iu,
    /#.*/iu,
    /\.\s*[\p{ID_Start}_]\p{ID_Continue}*/iu,
    /\d\p{ID_Continue}*/iu,
    /(?<name>[\p{ID_Start}_]\p{ID_Continue}*)(?!\p{ID_Continue}|\s*\()/iu,
  ]
    .map((part) => part.source)
    .join("|"),
  "giu",
);

export interface Name {
  readonly text: string;
  readonly column: number;
}

/** The names that the lines of some code read or bind, each once a line. The first line must not be inside a string. */
export function namesOf(lines: readonly string[]): Name[][] {
  let quotes: string | undefined;
  return lines.map((line) => {
    const found = new Map<string, Name>();
    let from = 0;
    while (from < line.length) {
      if (quotes !== undefined) {
        const end = line.indexOf(quotes, from);
        from = end < 0 ? line.length : end + quotes.length;
        quotes = end < 0 ? quotes : undefined;
        continue;
      }
      TOKEN.lastIndex = from;
      const match = TOKEN.exec(line);
      if (match === null) {
        break;
      }
      from = TOKEN.lastIndex;
      quotes = match.groups?.["quotes"];
      const text = match.groups?.["name"];
      if (text !== undefined && !KEYWORDS.has(text) && !found.has(text)) {
        found.set(text, { text, column: match.index });
      }
    }
    return [...found.values()];
  });
}

/** The index of the line that begins the function (or class) around a line; none at a module's level. */
export function beginningOfFunction(lineAt: (index: number) => string, stopped: number): number | undefined {
  let indentation = indentationOf(lineAt(stopped));
  for (let index = stopped; index >= 0; index--) {
    const line = lineAt(index);
    if (line.trim() === "") {
      continue;
    }
    const isOuter = indentationOf(line) < indentation || index === stopped;
    if (isOuter && /^\s*(?:(?:async\s+)?def|class)\s/.test(line)) {
      return index;
    }
    indentation = Math.min(indentation, indentationOf(line));
  }
  return undefined;
}

function indentationOf(line: string): number {
  return line.length - line.trimStart().length;
}
