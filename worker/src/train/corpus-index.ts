// What a corpus consists of: files found, their digest, and documents as byte ranges. One pass over every byte, nothing kept of
// the texts: a corpus may be larger than memory.
import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { readdir, stat } from 'node:fs/promises';
import { extname, join } from 'node:path';
import type { Stats } from 'node:fs';

/** The corpus cannot be used; the message says why and what to do. */
export class CorpusError extends Error {
  override readonly name = 'CorpusError';
}

/** One text file, or one line of a .jsonl. */
export interface Document {
  readonly path: string;
  readonly offset: number;
  readonly bytes: number;
  readonly json: boolean;
}

export interface CorpusIndex {
  readonly documents: readonly Document[];
  /** starts[i]: bytes of the documents before document i; one more entry for all. */
  readonly starts: Float64Array;
  /** SHA-256 hex over the files' contents in order; names do not matter. */
  readonly digest: string;
}

const LINE_FEED = 10;

/** Files under a path in the order of their names, hidden ones left out. */
async function filesUnder(path: string): Promise<string[]> {
  const info = await stat(path).catch((error: unknown): Stats => {
    throw new CorpusError(`${path}: cannot be read: ${(error as Error).message}`);
  });
  if (!info.isDirectory()) return [path];
  const names = (await readdir(path)).filter((name) => !name.startsWith('.')).sort();
  const nested = await Promise.all(names.map((name) => filesUnder(join(path, name))));
  return nested.flat();
}

async function indexFile(path: string): Promise<{ documents: Document[]; digest: string }> {
  const json = ['.jsonl', '.ndjson'].includes(extname(path).toLowerCase());
  const hash = createHash('sha256');
  const documents: Document[] = [];
  let read = 0;
  let lineStart = 0;
  for await (const chunk of createReadStream(path, { highWaterMark: 1 << 20 }) as AsyncIterable<Buffer>) {
    hash.update(chunk);
    if (chunk.includes(0))
      throw new CorpusError(`${path}: holds zero bytes: not a text. Leave it out of the corpus.`);
    if (json) {
      for (let at = chunk.indexOf(LINE_FEED); at >= 0; at = chunk.indexOf(LINE_FEED, at + 1)) {
        const bytes = read + at - lineStart;
        if (bytes > 1) documents.push({ path, offset: lineStart, bytes, json });
        lineStart = read + at + 1;
      }
    }
    read += chunk.length;
  }
  if (json && read - lineStart > 1)
    documents.push({ path, offset: lineStart, bytes: read - lineStart, json });
  if (!json && read > 0) documents.push({ path, offset: 0, bytes: read, json });
  return { documents, digest: hash.digest('hex') };
}

/** [async] @throws CorpusError */
export async function indexCorpus(paths: readonly string[]): Promise<CorpusIndex> {
  const documents: Document[] = [];
  const digest = createHash('sha256');
  for (const path of paths) {
    for (const file of await filesUnder(path)) {
      const indexed = await indexFile(file);
      for (const document of indexed.documents) documents.push(document);
      digest.update(`${indexed.digest}\n`);
    }
  }
  const starts = new Float64Array(documents.length + 1);
  documents.forEach(({ bytes }, i) => {
    starts[i + 1] = (starts[i] ?? 0) + bytes;
  });
  if (documents.length === 0) throw new CorpusError(`${paths.join(', ')}: no text in it`);
  return { documents, starts, digest: digest.digest('hex') };
}
