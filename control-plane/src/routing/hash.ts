// One 64-bit hash for all of routing: the first 8 bytes of SHA-1. Node's crypto hashes a prompt at about a gigabyte a
// second, and replicas on different machines must agree, which a seeded hash would break.
import { createHash } from 'node:crypto';

export function hash64(data: string | Uint8Array): bigint {
  return createHash('sha1').update(data).digest().readBigUInt64BE(0);
}

/** Chunks this small while a prompt is short, where a shared system prompt ends somewhere in the first KiBs. */
const SMALL_CHUNK = 1024;
const SMALL_CHUNKS = 64;
/** And this large beyond, so that a prompt of a million tokens has some hundred hashes instead of thousands. */
const LARGE_CHUNK = 16_384;

/**
 * RouteRequest.prefixHashes of a prompt's canonical bytes: one hash a whole chunk, each over everything before it too.
 * A last part shorter than its chunk has no hash, since the next turn of a conversation would change it.
 */
export function prefixHashes(bytes: Uint8Array): bigint[] {
  const running = createHash('sha1');
  const hashes: bigint[] = [];
  let start = 0;
  for (;;) {
    const end = start + (hashes.length < SMALL_CHUNKS ? SMALL_CHUNK : LARGE_CHUNK);
    if (end > bytes.length) return hashes;
    running.update(bytes.subarray(start, end));
    hashes.push(running.copy().digest().readBigUInt64BE(0));
    start = end;
  }
}
