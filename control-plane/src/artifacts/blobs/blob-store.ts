// Where artifact bytes lie: a folder or a bucket, behind one face that both pass one case file for. Bytes come as an upload that grows
// from its front, then become a blob by one atomic step; a blob never changes, and its name is never used twice.

export interface StoredName {
  readonly name: string;
  readonly changed: Date;
}

export interface BlobStore {
  /** For messages: the folder's path, or `s3://bucket/prefix`. */
  readonly place: string;

  /** Bytes of an upload that are safe here, from its front; 0 for one that never began. */
  staged(upload: string): Promise<number>;
  /**
   * Adds what follows `offset`, which is what staged() tells; one writer at a time. A body that breaks off rejects with its error, and
   * what came before stays. Resolves with the new length when all of it is safe.
   */
  append(upload: string, offset: number, body: AsyncIterable<Buffer>): Promise<number>;
  readStaged(upload: string): AsyncIterable<Buffer>;
  /** Makes the upload's bytes the blob `name`, whole or not at all. Again after a crash it is done already. */
  commit(upload: string, name: string): Promise<void>;
  /** Idempotent. */
  discard(upload: string): Promise<void>;

  /** Bytes; undefined when there is no such blob. */
  size(name: string): Promise<number | undefined>;
  /** From a byte that the blob has. */
  read(name: string, offset: number): AsyncIterable<Buffer>;
  /** Idempotent. */
  remove(name: string): Promise<void>;

  /** What lies here, for finding what nobody knows of any more. */
  uploads(): Promise<StoredName[]>;
  blobs(): Promise<StoredName[]>;
}

/** What Nest injects the BlobStore by. */
export const BLOB_STORE = Symbol('BlobStore');
