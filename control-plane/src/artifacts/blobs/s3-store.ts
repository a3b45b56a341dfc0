// Blobs in an S3 bucket. Objects cannot grow, so an upload is a row of pieces `uploads/ID/OFFSET`, each written whole: what is there
// from the front without a hole is safe, on any replica. A commit copies them into one object by a multipart upload, which S3 makes
// visible at once or never.
import type { S3Client } from '@aws-sdk/client-s3';
import {
  DeleteObjectCommand,
  GetObjectCommand,
  HeadObjectCommand,
  ListObjectsV2Command,
  PutObjectCommand,
} from '@aws-sdk/client-s3';
import { Upload } from '@aws-sdk/lib-storage';
import { Readable } from 'node:stream';
import type { BlobStore, StoredName } from './blob-store.js';
import { isMissingObject, s3Error } from './s3-error.js';

/** Held in memory while a piece fills; a broken body loses none of it, since the rest is written too. */
const PIECE_BYTES = 8 * 2 ** 20;
const PART_BYTES = 8 * 2 ** 20;
/** Digits of the largest safe integer, so that names sort as offsets do. */
const OFFSET_DIGITS = 16;

interface Piece {
  readonly key: string;
  readonly offset: number;
  readonly size: number;
}

export class S3Store implements BlobStore {
  readonly place: string;

  /** @param prefix of every key, without a slash at its end; empty for the whole bucket */
  constructor(
    private readonly client: S3Client,
    private readonly bucket: string,
    private readonly prefix: string,
  ) {
    this.place = `s3://${bucket}${prefix === '' ? '' : `/${prefix}`}`;
  }

  async staged(upload: string): Promise<number> {
    const last = (await this.#pieces(upload)).at(-1);
    return last === undefined ? 0 : last.offset + last.size;
  }

  async append(upload: string, offset: number, body: AsyncIterable<Buffer>): Promise<number> {
    let position = offset;
    let held: Buffer[] = [];
    let heldBytes = 0;
    const write = async (): Promise<void> => {
      if (heldBytes === 0) return;
      const Key = this.#key('uploads', `${upload}/${String(position).padStart(OFFSET_DIGITS, '0')}`);
      const Body = Buffer.concat(held, heldBytes);
      await this.#ask(() => this.client.send(new PutObjectCommand({ Bucket: this.bucket, Key, Body })));
      position += heldBytes;
      held = [];
      heldBytes = 0;
    };
    try {
      for await (const chunk of body) {
        held.push(chunk);
        heldBytes += chunk.length;
        if (heldBytes >= PIECE_BYTES) await write();
      }
    } finally {
      await write();
    }
    return position;
  }

  async *readStaged(upload: string): AsyncGenerator<Buffer> {
    for (const { key } of await this.#pieces(upload)) yield* this.#get(key, 0);
  }

  async commit(upload: string, name: string): Promise<void> {
    if ((await this.size(name)) !== undefined) return;
    const task = new Upload({
      client: this.client,
      params: {
        Bucket: this.bucket,
        Key: this.#key('blobs', name),
        Body: Readable.from(this.readStaged(upload)),
      },
      partSize: PART_BYTES,
      queueSize: 2,
    });
    await this.#ask(() => task.done());
  }

  async discard(upload: string): Promise<void> {
    // Whatever lies there, pieces behind a hole included. From the back: what is left of a discard that was cut short stays an upload.
    const objects = await this.#list(this.#key('uploads', `${upload}/`));
    for (const { Key } of objects.reverse()) await this.#delete(Key);
  }

  async size(name: string): Promise<number | undefined> {
    const Key = this.#key('blobs', name);
    try {
      const { ContentLength } = await this.client.send(new HeadObjectCommand({ Bucket: this.bucket, Key }));
      return ContentLength;
    } catch (error) {
      if (isMissingObject(error)) return undefined;
      throw s3Error(this.place, error);
    }
  }

  read(name: string, offset: number): AsyncIterable<Buffer> {
    return this.#get(this.#key('blobs', name), offset);
  }

  remove(name: string): Promise<void> {
    return this.#delete(this.#key('blobs', name));
  }

  async uploads(): Promise<StoredName[]> {
    const latest = new Map<string, Date>();
    const start = this.#key('uploads', '');
    for (const { Key, LastModified } of await this.#list(start)) {
      const [id = ''] = Key.slice(start.length).split('/');
      const known = latest.get(id);
      if (known === undefined || known < LastModified) latest.set(id, LastModified);
    }
    return [...latest].map(([name, changed]) => ({ name, changed }));
  }

  async blobs(): Promise<StoredName[]> {
    const start = this.#key('blobs', '');
    const objects = await this.#list(start);
    return objects.map(({ Key, LastModified }) => ({ name: Key.slice(start.length), changed: LastModified }));
  }

  #key(kind: 'uploads' | 'blobs', name: string): string {
    return `${this.prefix === '' ? '' : `${this.prefix}/`}${kind}/${name}`;
  }

  /** From the front up to the first hole: a piece behind one was written by a connection that another has overtaken. */
  async #pieces(upload: string): Promise<Piece[]> {
    const start = this.#key('uploads', `${upload}/`);
    const pieces: Piece[] = [];
    let reached = 0;
    for (const { Key, Size } of await this.#list(start)) {
      const offset = Number(Key.slice(start.length));
      if (offset !== reached) continue;
      pieces.push({ key: Key, offset, size: Size });
      reached += Size;
    }
    return pieces;
  }

  /** In the order of their keys. */
  async #list(start: string): Promise<{ Key: string; Size: number; LastModified: Date }[]> {
    const found: { Key: string; Size: number; LastModified: Date }[] = [];
    let next: string | undefined;
    do {
      const token = next === undefined ? {} : { ContinuationToken: next };
      const page = await this.#ask(() =>
        this.client.send(new ListObjectsV2Command({ Bucket: this.bucket, Prefix: start, ...token })),
      );
      for (const { Key = '', Size = 0, LastModified = new Date() } of page.Contents ?? []) {
        found.push({ Key, Size, LastModified });
      }
      next = page.IsTruncated === true ? page.NextContinuationToken : undefined;
    } while (next !== undefined);
    return found.sort((a, b) => (a.Key < b.Key ? -1 : 1));
  }

  async *#get(Key: string, offset: number): AsyncGenerator<Buffer> {
    const Range = offset === 0 ? {} : { Range: `bytes=${offset}-` };
    const { Body } = await this.#ask(() =>
      this.client.send(new GetObjectCommand({ Bucket: this.bucket, Key, ...Range })),
    );
    if (!(Body instanceof Readable)) throw new Error('S3 answered without a body');
    try {
      for await (const chunk of Body) yield chunk as Buffer;
    } catch (error) {
      throw s3Error(this.place, error);
    }
  }

  async #delete(Key: string): Promise<void> {
    await this.#ask(() => this.client.send(new DeleteObjectCommand({ Bucket: this.bucket, Key })));
  }

  async #ask<T>(work: () => Promise<T>): Promise<T> {
    try {
      return await work();
    } catch (error) {
      throw s3Error(this.place, error);
    }
  }
}
