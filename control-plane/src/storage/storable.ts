// What Postgres can hold of a text that others wrote: neither NUL, nor half a surrogate pair (which UTF-8 cannot write). Pure.

export function isStorable(text: string): boolean {
  return !text.includes('\0') && !/\p{Surrogate}/u.test(text);
}
