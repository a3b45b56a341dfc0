// One parser a kind of value: text in, value out, or a BadValue that says what would have been right.
// Total over strings, so that config.ts can name every bad value of a start at once.
import type { LayerSettings } from '@spotlight/cuda';

export class BadValue extends Error {
  override readonly name = 'BadValue';
}

export type Parser<T> = (text: string) => T;

export const text: Parser<string> = (raw) => {
  if (raw === '') throw new BadValue('must not be empty');
  return raw;
};

export const flag: Parser<boolean> = (raw) => {
  if (['true', '1', 'yes'].includes(raw)) return true;
  if (['false', '0', 'no'].includes(raw)) return false;
  throw new BadValue('must be true or false');
};

/** A whole number in [least, most]. */
export function integer(least: number, most: number): Parser<number> {
  return (raw) => {
    const value = Number(raw);
    if (!/^-?\d+$/.test(raw) || value < least || value > most)
      throw new BadValue(`must be a whole number from ${least} to ${most}`);
    return value;
  };
}

/** A number in (0, 1]. */
export const share: Parser<number> = (raw) => {
  const value = raw.trim() === '' ? Number.NaN : Number(raw);
  if (!(value > 0 && value <= 1)) throw new BadValue('must be a number above 0 and at most 1');
  return value;
};

/** A number in [0, 1]. */
export const rate: Parser<number> = (raw) => {
  const value = raw.trim() === '' ? Number.NaN : Number(raw);
  if (!(value >= 0 && value <= 1)) throw new BadValue('must be a number from 0 to 1');
  return value;
};

export function oneOf<const T extends string>(...names: readonly T[]): Parser<T> {
  return (raw) => {
    const found = names.find((name) => name === raw);
    if (found === undefined) throw new BadValue(`must be one of ${names.join(', ')}`);
    return found;
  };
}

function scaled(
  units: Readonly<Record<string, number>>,
  what: string,
  least: number,
  most: number,
): Parser<number> {
  return (raw) => {
    const match = /^(\d+(?:\.\d+)?)([A-Za-z]*)$/.exec(raw);
    const unit = match?.[2] === undefined ? undefined : units[match[2]];
    const value = unit === undefined ? Number.NaN : Math.round(Number(match?.[1]) * unit);
    if (!(value >= least && value <= most)) throw new BadValue(`must be ${what}`);
    return value;
  };
}

/** Milliseconds. */
export const duration: Parser<number> = scaled(
  { ms: 1, s: 1000, m: 60_000, h: 3_600_000 },
  'a time such as 500ms, 30s or 10m, at most 24h',
  0,
  86_400_000,
);

/** Bytes. */
export const size: Parser<number> = scaled(
  { '': 1, KiB: 2 ** 10, MiB: 2 ** 20, GiB: 2 ** 30, TiB: 2 ** 40, KB: 1e3, MB: 1e6, GB: 1e9, TB: 1e12 },
  'a size such as 512MiB or 4GiB, at least 1MiB',
  2 ** 20,
  2 ** 50,
);

/** Comma-separated host:port. */
export const addresses: Parser<readonly string[]> = (raw) => {
  const list = raw.split(',').map((address) => address.trim());
  for (const address of list) {
    const port = Number(/^(?:\[[0-9a-fA-F:.]+\]|[^\s:/[\]]+):(\d{1,5})$/.exec(address)?.[1]);
    if (!(port >= 1 && port <= 65535)) throw new BadValue('must be host:port, such as 127.0.0.1:50051');
  }
  return list;
};

export const url: Parser<string> = (raw) => {
  if (!URL.canParse(raw) || !/^https?:/.test(raw)) throw new BadValue('must be a http or https URL');
  return raw.replace(/\/+$/, '');
};

/** `0-1:dense,5:sparse,6-8:sparse-tail:0.05` -> settings by layer index. */
export const layers: Parser<Readonly<Record<number, LayerSettings>>> = (raw) => {
  const settings: Record<number, LayerSettings> = {};
  for (const part of raw.split(',')) {
    const match = /^(\d{1,4})(?:-(\d{1,4}))?:(dense|sparse|sparse-tail)(?::([\d.]+))?$/.exec(part.trim());
    if (match === null)
      throw new BadValue('must be layers and their mode, such as 0-1:dense,5:sparse,6-8:sparse-tail:0.05');
    const [, first, last = first, mode, fraction] = match;
    const chosen: LayerSettings = {
      mode: mode as LayerSettings['mode'],
      ...(fraction === undefined ? {} : { fraction: share(fraction) }),
    };
    if (Number(last) < Number(first)) throw new BadValue(`has layers ${first ?? ''}-${last ?? ''} backwards`);
    for (let layer = Number(first); layer <= Number(last); layer++) settings[layer] = chosen;
  }
  return settings;
};
