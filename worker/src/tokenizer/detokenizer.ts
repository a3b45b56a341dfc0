// R9: token ids -> text, one stream a choice. Bytes that may still become a code point are held back, so a delta never
// splits one; what can no longer become valid is U+FFFD, as the WHATWG decoder has it, so streamed text equals whole text.
import type { TextStream } from '../engine/api.js';
import type { ByteTable } from './byte-table.js';

const decoder = new TextDecoder('utf-8', { ignoreBOM: true });
const NONE = new Uint8Array(0);

export class Detokenizer {
  /** Text of tokens that are whole code points alone; null: not so; undefined: not looked at yet. */
  private readonly whole: (string | null | undefined)[] = [];

  constructor(
    private readonly table: ByteTable,
    private readonly special: ReadonlySet<number>,
  ) {}

  openStream(skipSpecial: boolean): TextStream {
    let held = NONE;
    return {
      push: (id) => {
        if (skipSpecial && this.special.has(id)) return '';
        if (held.length === 0) {
          const text = this.wholeText(id);
          if (text !== null) return text;
        }
        const bytes = held.length === 0 ? this.table.bytes(id) : concat(held, this.table.bytes(id));
        const keep = bytes.length - incompleteSuffix(bytes);
        held = keep === bytes.length ? NONE : bytes.slice(keep);
        return decoder.decode(bytes.subarray(0, keep));
      },
      flush: () => {
        const text = held.length === 0 ? '' : decoder.decode(held);
        held = NONE;
        return text;
      },
    };
  }

  private wholeText(id: number): string | null {
    const known = this.whole[id];
    if (known !== undefined) return known;
    const bytes = this.table.bytes(id);
    const text = incompleteSuffix(bytes) === 0 ? decoder.decode(bytes) : null;
    this.whole[id] = text;
    return text;
  }
}

function concat(a: Uint8Array, b: Uint8Array): Uint8Array {
  const both = new Uint8Array(a.length + b.length);
  both.set(a);
  both.set(b, a.length);
  return both;
}

/**
 * Length of the longest end of `bytes` that is the beginning of a code point and not all of it: 0 to 3.
 * Second bytes are held to their lead's range (no overlong forms, no surrogates, nothing above U+10FFFF).
 */
export function incompleteSuffix(bytes: Uint8Array): number {
  for (let back = 1; back <= 3 && back <= bytes.length; back++) {
    const byte = bytes[bytes.length - back] ?? 0;
    if (byte >= 0x80 && byte < 0xc0) continue;
    const needs =
      byte >= 0xc2 && byte < 0xe0 ? 2 : byte >= 0xe0 && byte < 0xf0 ? 3 : byte >= 0xf0 && byte < 0xf5 ? 4 : 1;
    if (needs <= back) return 0;
    return back === 1 || secondFits(byte, bytes[bytes.length - back + 1] ?? 0) ? back : 0;
  }
  return 0;
}

function secondFits(lead: number, second: number): boolean {
  if (lead === 0xe0) return second >= 0xa0;
  if (lead === 0xed) return second < 0xa0;
  if (lead === 0xf0) return second >= 0x90;
  if (lead === 0xf4) return second < 0x90;
  return true;
}
