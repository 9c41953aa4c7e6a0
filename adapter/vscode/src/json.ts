/** Reads JSON that another program wrote: what is missing or of another type is named in the error. */

export type JsonObject = Readonly<Record<string, unknown>>;

export function parseObject(text: string, what: string): JsonObject {
  return asObject(JSON.parse(text), what);
}

export function asObject(value: unknown, what: string): JsonObject {
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    throw new TypeError(`${what} is no object`);
  }
  return value as JsonObject;
}

export function numberIn(object: JsonObject, key: string): number {
  const value = object[key];
  if (typeof value !== "number") {
    throw new TypeError(`"${key}" is no number`);
  }
  return value;
}

export function numberOr<T>(object: JsonObject, key: string, otherwise: T): number | T {
  const value = object[key];
  return typeof value === "number" ? value : otherwise;
}

export function stringIn(object: JsonObject, key: string): string {
  const value = object[key];
  if (typeof value !== "string") {
    throw new TypeError(`"${key}" is no string`);
  }
  return value;
}

export function stringOr<T>(object: JsonObject, key: string, otherwise: T): string | T {
  const value = object[key];
  return typeof value === "string" ? value : otherwise;
}

/** The objects of an array; none where the key is missing. */
export function objectsIn(object: JsonObject, key: string): JsonObject[] {
  const value = object[key] ?? [];
  if (!Array.isArray(value)) {
    throw new TypeError(`"${key}" is no array`);
  }
  return value.map((item) => asObject(item, `an item of "${key}"`));
}

export function stringsIn(object: JsonObject, key: string): string[] {
  const value = object[key];
  return Array.isArray(value) ? value.filter((item) => typeof item === "string") : [];
}
