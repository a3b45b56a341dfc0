// Turns a trainer's raw safetensors (float32, tensors only) and a JSON of what it recorded into the project's artifact:
//   node cuda/dist/artifact/import.js --in raw.safetensors --out artifact.safetensors --meta meta.json --fingerprint HEX
// Every key of the JSON becomes a metadata entry: text as it is, anything else as JSON.
import { readFile } from 'node:fs/promises';
import { pathToFileURL } from 'node:url';
import { parseArgs } from 'node:util';
import { EngineError } from '../errors.js';
import { fromHalf } from './half.js';
import { readSafetensors } from './safetensors.js';
import { writeArtifact } from './write.js';
import type { ArtifactLayout } from './layout.js';
import type { RawTensor } from './safetensors.js';

export interface ImportOptions {
  readonly input: string;
  readonly output: string;
  /** Path of a JSON object: budget, dense_layers, recipe, corpus, quality, … */
  readonly meta: string;
  /** The model's fingerprint, 64 hex digits. */
  readonly fingerprint: string;
}

/** Values of a tensor. */
export function toFloat32({ dtype, data }: RawTensor): Float32Array {
  if (dtype === 'F32')
    return Float32Array.from({ length: data.length / 4 }, (_, i) => data.readFloatLE(4 * i));
  if (dtype === 'BF16') {
    const words = Uint32Array.from({ length: data.length / 2 }, (_, i) => data.readUInt16LE(2 * i) << 16);
    return new Float32Array(words.buffer);
  }
  return Float32Array.from({ length: data.length / 2 }, (_, i) => fromHalf(data.readUInt16LE(2 * i)));
}

async function readMeta(path: string): Promise<Record<string, string>> {
  const value: unknown = JSON.parse(await readFile(path, 'utf8'));
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    throw new EngineError('INVALID_ARGUMENT', `${path}: must hold one JSON object`);
  return Object.fromEntries(
    Object.entries(value).map(([key, entry]) => [
      key,
      typeof entry === 'string' ? entry : JSON.stringify(entry),
    ]),
  );
}

/** Writes `output` and returns its layout. Throws EngineError naming the file, tensor or metadata field at fault. */
export async function importArtifact(options: ImportOptions): Promise<ArtifactLayout> {
  const [raw, meta] = await Promise.all([readSafetensors(options.input), readMeta(options.meta)]);
  const tensors = new Map(
    [...raw.tensors].map(([name, tensor]) => [name, { shape: tensor.shape, data: toFloat32(tensor) }]),
  );
  return writeArtifact(options.output, tensors, { ...meta, model_fingerprint: options.fingerprint });
}

async function main(): Promise<void> {
  const text = { type: 'string' } as const;
  const { values } = parseArgs({ options: { in: text, out: text, meta: text, fingerprint: text } });
  const { in: input, out: output, meta, fingerprint } = values;
  if (input === undefined || output === undefined || meta === undefined || fingerprint === undefined)
    throw new EngineError(
      'INVALID_ARGUMENT',
      'usage: import --in RAW --out ARTIFACT --meta JSON --fingerprint HEX',
    );
  const layout = await importArtifact({ input, output, meta, fingerprint });
  process.stdout.write(
    `${output}: ${layout.encoder}, ${layout.bits} bits, ${layout.layers.length} layers, ` +
      `${layout.queryHeads} query and ${layout.kvHeads} KV heads of ${layout.headDim}\n`,
  );
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) {
  main().catch((error: unknown) => {
    process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n`);
    process.exitCode = 1;
  });
}
