// The form of an API key: `sk-spotlight-PREFIX-SECRET`. The prefix is public, it names the key in lists and finds its row; the
// secret is 32 random bytes, so one SHA-256 is as good a store as a slow password hash and costs 2 µs.
import { createHash, randomBytes, timingSafeEqual } from 'node:crypto';

const MARK = 'sk-spotlight-';
const PREFIX_BYTES = 6;
const SECRET_BYTES = 32;
const DIGEST_BYTES = 32;
const FORM = new RegExp(`^${MARK}([0-9a-f]{${PREFIX_BYTES * 2}})-[A-Za-z0-9_-]{43}$`);

export interface NewKey {
  readonly key: string;
  readonly prefix: string;
  readonly hash: string;
}

export function makeKey(): NewKey {
  const prefix = randomBytes(PREFIX_BYTES).toString('hex');
  const key = `${MARK}${prefix}-${randomBytes(SECRET_BYTES).toString('base64url')}`;
  return { key, prefix, hash: hashKey(key) };
}

/** Undefined for anything that is not of our form: it needs no look-up. */
export function prefixOf(key: string): string | undefined {
  return FORM.exec(key)?.[1];
}

/** SHA-256, hex. */
export function hashKey(key: string): string {
  return createHash('sha256').update(key).digest('hex');
}

/** Compares two secrets in a time that tells nothing of where, or how long, they differ. */
export function sameSecret(a: string, b: string): boolean {
  return sameHash(hashKey(a), hashKey(b));
}

/** @param a,b SHA-256 digests in hex */
export function sameHash(a: string, b: string): boolean {
  const [left, right] = [Buffer.from(a, 'hex'), Buffer.from(b, 'hex')];
  return left.length === DIGEST_BYTES && right.length === DIGEST_BYTES && timingSafeEqual(left, right);
}
