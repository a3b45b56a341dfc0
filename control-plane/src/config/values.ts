// One parser a kind of value: text in, value out, or a BadValue that says what would have been right.
// Every parser is total over strings, so config.ts can collect all bad values of a start and name them at once.

export class BadValue extends Error {
  override readonly name = 'BadValue';
}

export type Parser<T> = (text: string) => T;

export const text: Parser<string> = (raw) => raw;

/** A whole number in [min, max]. */
export function integer(min: number, max: number): Parser<number> {
  return (raw) => {
    const value = Number(raw);
    if (!/^-?\d+$/.test(raw) || value < min || value > max) {
      throw new BadValue(`must be a whole number from ${min} to ${max}`);
    }
    return value;
  };
}

/** A finite number in [min, max]. */
export function number(min: number, max: number): Parser<number> {
  return (raw) => {
    const value = raw.trim() === '' ? Number.NaN : Number(raw);
    if (!Number.isFinite(value) || value < min || value > max) {
      throw new BadValue(`must be a number from ${min} to ${max}`);
    }
    return value;
  };
}

/** 0 lets the system choose a free port. */
export const port: Parser<number> = integer(0, 65535);

const DURATION_UNITS: Readonly<Record<string, number>> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000 };

/** Milliseconds from `500ms`, `30s`, `10m` or `2h`. */
export function duration(minMs: number, maxMs: number): Parser<number> {
  return (raw) => {
    const match = /^(\d+(?:\.\d+)?)(ms|s|m|h)$/.exec(raw);
    const value = match ? Number(match[1]) * (DURATION_UNITS[match[2] ?? ''] ?? Number.NaN) : Number.NaN;
    if (!Number.isFinite(value)) throw new BadValue('must be a duration such as 500ms, 30s, 10m or 2h');
    if (value < minMs || value > maxMs) throw new BadValue(`must be from ${minMs}ms to ${maxMs}ms`);
    return Math.round(value);
  };
}

const SIZE_UNITS: Readonly<Record<string, number>> = { '': 1, KiB: 2 ** 10, MiB: 2 ** 20, GiB: 2 ** 30 };

/** Bytes from `1048576`, `512KiB`, `64MiB` or `1GiB`. */
export function size(minBytes: number, maxBytes: number): Parser<number> {
  return (raw) => {
    const match = /^(\d+)(KiB|MiB|GiB|)$/.exec(raw);
    const value = match ? Number(match[1]) * (SIZE_UNITS[match[2] ?? ''] ?? Number.NaN) : Number.NaN;
    if (!Number.isFinite(value)) throw new BadValue('must be a size such as 65536, 512KiB, 64MiB or 1GiB');
    if (value < minBytes || value > maxBytes)
      throw new BadValue(`must be from ${minBytes} to ${maxBytes} bytes`);
    return value;
  };
}

export function oneOf<const T extends string>(...choices: readonly T[]): Parser<T> {
  return (raw) => {
    const found = choices.find((choice) => choice === raw);
    if (found === undefined) throw new BadValue(`must be one of ${choices.join(', ')}`);
    return found;
  };
}

/** A host name or an IP address without brackets or port. */
export const host: Parser<string> = (raw) => {
  if (!/^[A-Za-z0-9._:-]+$/.test(raw) || /^\d+$/.test(raw)) {
    throw new BadValue('must be a host name or an IP address without a port, such as 127.0.0.1 or ::');
  }
  return raw;
};

/** Comma-separated, blanks dropped; each entry at least minLength long. */
export function list(minLength: number): Parser<readonly string[]> {
  return (raw) => {
    const entries = raw
      .split(',')
      .map((entry) => entry.trim())
      .filter((entry) => entry !== '');
    if (entries.some((entry) => entry.length < minLength)) {
      throw new BadValue(`must be a comma-separated list of entries of at least ${minLength} characters`);
    }
    return Object.freeze(entries);
  };
}

/** Text that guards something: short ones are guessed. */
export function secret(minLength: number): Parser<string> {
  return (raw) => {
    if (raw.length < minLength || /\s/.test(raw)) {
      throw new BadValue(`must be at least ${minLength} characters without blanks`);
    }
    return raw;
  };
}

export const postgresUrl: Parser<string> = (raw) => {
  if (!/^postgres(ql)?:\/\/./.test(raw) || !URL.canParse(raw)) {
    throw new BadValue('must be a URL such as postgres://user:password@host:5432/spotlight');
  }
  return raw;
};

/** A folder, or a bucket with a prefix of keys (no slash at either end). */
export type StorePlace =
  { readonly bucket: undefined; readonly path: string } | { readonly bucket: string; readonly path: string };

/** `s3://BUCKET`, `s3://BUCKET/PREFIX`, or the path of a folder. */
export const storePlace: Parser<StorePlace> = (raw) => {
  if (!/^[a-z0-9]+:\/\//i.test(raw)) {
    if (raw === '') throw new BadValue('must be a folder or s3://BUCKET/PREFIX');
    return { bucket: undefined, path: raw };
  }
  const match = /^s3:\/\/([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(?:\/+(.*?))?\/*$/.exec(raw);
  if (match?.[1] === undefined) throw new BadValue('must be a folder or s3://BUCKET/PREFIX');
  return { bucket: match[1], path: match[2] ?? '' };
};

export const httpUrl: Parser<string> = (raw) => {
  if (!/^https?:\/\/./.test(raw) || !URL.canParse(raw)) {
    throw new BadValue('must be a URL such as http://127.0.0.1:9000');
  }
  return raw;
};
