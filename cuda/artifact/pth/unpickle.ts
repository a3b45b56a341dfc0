// Reads the pickle of a list of tensors and nothing else. A pickle is a program; this one knows the opcodes that torch.save emits for
// such a list and the five names it may mention, none of which is looked up, imported or called: tensors come out as descriptions.
import { EngineError } from '../../errors.js';
import type { Dtype } from '../header.js';

/** A tensor as the pickle describes it. */
export interface TensorView {
  readonly dtype: Dtype;
  /** Name of the zip entry below data/. */
  readonly storage: string;
  /** Elements of the storage. */
  readonly elements: number;
  /** In elements. */
  readonly offset: number;
  readonly shape: readonly number[];
  readonly stride: readonly number[];
}

const DTYPES: Readonly<Record<string, Dtype>> = {
  'torch BFloat16Storage': 'BF16',
  'torch HalfStorage': 'F16',
  'torch FloatStorage': 'F32',
};
const REBUILD_TENSOR = 'torch._utils _rebuild_tensor_v2';
const REBUILD_PARAMETER = 'torch._utils _rebuild_parameter';
const ORDERED_DICT = 'collections OrderedDict';
const NAMES = new Set([...Object.keys(DTYPES), REBUILD_TENSOR, REBUILD_PARAMETER, ORDERED_DICT]);

const MOST_STEPS = 10_000_000;
const MOST_RANK = 8;

type Value =
  | { readonly kind: 'mark' }
  | { readonly kind: 'name'; readonly name: string }
  | { readonly kind: 'number'; readonly value: number }
  | { readonly kind: 'text'; readonly value: string }
  | { readonly kind: 'boolean'; readonly value: boolean }
  | { readonly kind: 'tuple'; readonly items: readonly Value[] }
  | { readonly kind: 'list'; readonly items: Value[] }
  | { readonly kind: 'hooks' }
  | { readonly kind: 'storage'; readonly dtype: Dtype; readonly key: string; readonly elements: number }
  | { readonly kind: 'tensor'; readonly view: TensorView };

function refuse(what: string): EngineError {
  return new EngineError('ARTIFACT_CORRUPT', `pickle: ${what}`);
}

class Machine {
  private readonly stack: Value[] = [];
  private readonly memo = new Map<number, Value>();
  private at = 0;

  constructor(private readonly bytes: Buffer) {}

  run(): Value {
    for (let steps = 0; steps < MOST_STEPS; steps++) {
      const place = this.at;
      const opcode = this.byte();
      if (opcode === 0x2e) return this.pop(); // STOP
      this.step(opcode, place);
    }
    throw refuse('too long for a list of tensors');
  }

  private step(opcode: number, place: number): void {
    switch (opcode) {
      case 0x80: // PROTO
        if (this.byte() > 5) throw refuse('a protocol newer than 5');
        return;
      case 0x95: // FRAME
        this.take(8);
        return;
      case 0x28: // MARK
        this.push({ kind: 'mark' });
        return;
      case 0x5d: // EMPTY_LIST
        this.push({ kind: 'list', items: [] });
        return;
      case 0x29: // EMPTY_TUPLE
        this.push({ kind: 'tuple', items: [] });
        return;
      case 0x74: // TUPLE
        this.push({ kind: 'tuple', items: this.popToMark() });
        return;
      case 0x85: // TUPLE1, TUPLE2, TUPLE3
      case 0x86:
      case 0x87:
        this.push({ kind: 'tuple', items: this.popSome(opcode - 0x84) });
        return;
      case 0x4b: // BININT1
        this.push({ kind: 'number', value: this.byte() });
        return;
      case 0x4d: // BININT2
        this.push({ kind: 'number', value: this.take(2).readUInt16LE() });
        return;
      case 0x4a: // BININT
        this.push({ kind: 'number', value: this.take(4).readInt32LE() });
        return;
      case 0x8a: // LONG1
        this.push({ kind: 'number', value: this.long(this.byte()) });
        return;
      case 0x58: // BINUNICODE
        this.push({ kind: 'text', value: this.take(this.take(4).readUInt32LE()).toString('utf8') });
        return;
      case 0x8c: // SHORT_BINUNICODE
        this.push({ kind: 'text', value: this.take(this.byte()).toString('utf8') });
        return;
      case 0x88: // NEWTRUE, NEWFALSE
      case 0x89:
        this.push({ kind: 'boolean', value: opcode === 0x88 });
        return;
      case 0x63: // GLOBAL
        this.push(this.name(`${this.line()} ${this.line()}`, place));
        return;
      case 0x93: {
        // STACK_GLOBAL
        const [module, name] = this.popSome(2);
        if (module?.kind !== 'text' || name?.kind !== 'text')
          throw refuse(`a name that is no text at byte ${place}`);
        this.push(this.name(`${module.value} ${name.value}`, place));
        return;
      }
      case 0x71: // BINPUT
        this.memo.set(this.byte(), this.top());
        return;
      case 0x72: // LONG_BINPUT
        this.memo.set(this.take(4).readUInt32LE(), this.top());
        return;
      case 0x94: // MEMOIZE
        this.memo.set(this.memo.size, this.top());
        return;
      case 0x68: // BINGET
        this.push(this.remembered(this.byte()));
        return;
      case 0x6a: // LONG_BINGET
        this.push(this.remembered(this.take(4).readUInt32LE()));
        return;
      case 0x51: // BINPERSID
        this.push(storageOf(this.pop()));
        return;
      case 0x52: {
        // REDUCE
        const [callee, given] = this.popSome(2);
        this.push(reduce(callee, given, place));
        return;
      }
      case 0x61: {
        // APPEND
        const item = this.pop();
        this.list().push(item);
        return;
      }
      case 0x65: {
        // APPENDS
        const items = this.popToMark();
        const list = this.list();
        for (const item of items) list.push(item);
        return;
      }
      default:
        throw refuse(
          `opcode 0x${opcode.toString(16).padStart(2, '0')} at byte ${place} is none of a list of tensors; nothing was executed`,
        );
    }
  }

  private name(name: string, place: number): Value {
    if (!NAMES.has(name))
      throw refuse(
        `it names ${JSON.stringify(name.slice(0, 100))} at byte ${place}, which no list of tensors needs; nothing was executed`,
      );
    return { kind: 'name', name };
  }

  private take(count: number): Buffer {
    if (this.at + count > this.bytes.length) throw refuse('truncated');
    this.at += count;
    return this.bytes.subarray(this.at - count, this.at);
  }
  private byte(): number {
    return this.take(1).readUInt8();
  }
  private line(): string {
    const end = this.bytes.indexOf(0x0a, this.at);
    if (end < 0) throw refuse('truncated');
    const text = this.bytes.toString('utf8', this.at, end);
    this.at = end + 1;
    return text;
  }
  private long(count: number): number {
    if (count > 6) throw refuse('a number beyond 2^47');
    return count === 0 ? 0 : this.take(count).readIntLE(0, count);
  }
  private push(value: Value): void {
    this.stack.push(value);
  }
  private pop(): Value {
    const value = this.stack.pop();
    if (value === undefined || value.kind === 'mark') throw refuse('takes from an empty stack');
    return value;
  }
  private popSome(count: number): Value[] {
    return Array.from({ length: count }, () => this.pop()).reverse();
  }
  private popToMark(): Value[] {
    const mark = this.stack.findLastIndex((value) => value.kind === 'mark');
    if (mark < 0) throw refuse('no mark on the stack');
    const items = this.stack.splice(mark + 1);
    this.stack.pop();
    return items;
  }
  private top(): Value {
    const value = this.stack.at(-1);
    if (value === undefined) throw refuse('remembers from an empty stack');
    return value;
  }
  private remembered(index: number): Value {
    const value = this.memo.get(index);
    if (value === undefined) throw refuse(`recalls ${index}, which it never stored`);
    return value;
  }
  private list(): Value[] {
    const value = this.top();
    if (value.kind !== 'list') throw refuse('appends to what is no list');
    return value.items;
  }
}

/** ('storage', a storage class, key, device, elements), which torch puts where a tensor's values belong. */
function storageOf(id: Value): Value {
  const items = id.kind === 'tuple' ? id.items : [];
  const [word, type, key, , elements] = items;
  const dtype = type?.kind === 'name' ? DTYPES[type.name] : undefined;
  if (
    items.length !== 5 ||
    word?.kind !== 'text' ||
    word.value !== 'storage' ||
    dtype === undefined ||
    key?.kind !== 'text' ||
    elements?.kind !== 'number'
  )
    throw refuse('a persistent id that is no storage of bf16, fp16 or fp32');
  if (!/^\d{1,9}$/.test(key.value))
    throw refuse(`a storage named ${JSON.stringify(key.value.slice(0, 100))}`);
  return { kind: 'storage', dtype, key: key.value, elements: elements.value };
}

function sizes(value: Value | undefined, what: string): number[] {
  if (value?.kind !== 'tuple' || value.items.length > MOST_RANK)
    throw refuse(`a tensor whose ${what} is no short tuple`);
  return value.items.map((item) => {
    if (item.kind !== 'number' || item.value < 0) throw refuse(`a tensor whose ${what} is no tuple of sizes`);
    return item.value;
  });
}

function reduce(callee: Value | undefined, given: Value | undefined, place: number): Value {
  const items = given?.kind === 'tuple' ? given.items : undefined;
  if (callee?.kind !== 'name' || items === undefined)
    throw refuse(`a call at byte ${place} of what is no name`);
  if (callee.name === ORDERED_DICT && items.length === 0) return { kind: 'hooks' };
  const [first, second, third, fourth] = items;
  if (callee.name === REBUILD_PARAMETER && items.length === 3 && first?.kind === 'tensor') return first;
  if (
    callee.name === REBUILD_TENSOR &&
    items.length >= 6 &&
    first?.kind === 'storage' &&
    second?.kind === 'number'
  ) {
    const view: TensorView = {
      dtype: first.dtype,
      storage: first.key,
      elements: first.elements,
      offset: second.value,
      shape: sizes(third, 'shape'),
      stride: sizes(fourth, 'stride'),
    };
    if (view.shape.length !== view.stride.length) throw refuse('a tensor with more sizes than strides');
    return { kind: 'tensor', view };
  }
  throw refuse(
    `a call of ${callee.name} at byte ${place} that no list of tensors makes; nothing was executed`,
  );
}

/** Throws EngineError ARTIFACT_CORRUPT for anything but a flat list of tensors. */
export function unpickleTensors(bytes: Buffer): TensorView[] {
  const value = new Machine(bytes).run();
  if (value.kind !== 'list') throw refuse(`holds a ${value.kind} where a list of tensors is due`);
  return value.items.map((item, i) => {
    if (item.kind !== 'tensor') throw refuse(`entry ${i} of its list is a ${item.kind}, not a tensor`);
    return item.view;
  });
}
