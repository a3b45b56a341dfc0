// The admin API as a test asks it: answers with their codes, artifacts pushed, shown and downloaded, and requests that break half-way.
import assert from 'node:assert/strict';
import type { ClientRequest } from 'node:http';
import { request } from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';
import type { z } from 'zod';
import { ARTIFACT } from '@spotlight/control-plane/admin/shapes.js';
import type { ArtifactFile } from '@spotlight/control-plane/artifacts/artifact-file.fixture.js';

export interface Answer {
  readonly status: number;
  readonly body: unknown;
  /** `error.code` of a refusal. */
  readonly code: string | undefined;
  readonly message: string;
}

export class AdminDoor {
  /** @param key of scope admin; undefined asks without one */
  constructor(
    private readonly http: string,
    private readonly key?: string,
  ) {}

  async ask(
    method: string,
    path: string,
    body?: object,
    headers: Readonly<Record<string, string>> = {},
  ): Promise<Answer> {
    const bytes = Buffer.isBuffer(body);
    const type = bytes ? 'application/octet-stream' : 'application/json';
    const response = await fetch(`${this.http}/api/v1/${path}`, {
      method,
      headers: { ...this.#headers(), ...(body === undefined ? {} : { 'content-type': type }), ...headers },
      ...(body === undefined ? {} : { body: bytes ? body : JSON.stringify(body) }),
    });
    const text = await response.text();
    const parsed: unknown = text === '' ? null : JSON.parse(text);
    const error = (parsed as { error?: { code: string; message: string } } | null)?.error;
    return { status: response.status, body: parsed, code: error?.code, message: error?.message ?? '' };
  }

  push({ bytes }: Pick<ArtifactFile, 'bytes'>, query = ''): Promise<Answer> {
    return this.ask('POST', `artifacts${query}`, bytes);
  }

  async show(digest: string): Promise<z.output<typeof ARTIFACT>> {
    return ARTIFACT.parse((await this.ask('GET', `artifacts/${digest}`)).body);
  }

  async download(digest: string, range?: string): Promise<{ bytes: Buffer; range: string | null }> {
    const response = await fetch(`${this.http}/api/v1/artifacts/${digest}/content`, {
      headers: { ...this.#headers(), ...(range === undefined ? {} : { range }) },
    });
    const bytes = Buffer.from(await response.arrayBuffer());
    return { bytes, range: response.headers.get('content-range') };
  }

  /** A PUT that announces `length` bytes, has sent these, and stays open. */
  half(path: string, offset: number, length: number, bytes: Buffer): ClientRequest {
    const call = request(`${this.http}/api/v1/${path}`, {
      method: 'PUT',
      headers: {
        ...this.#headers(),
        'content-type': 'application/octet-stream',
        'content-length': length,
        'upload-offset': offset,
      },
    });
    call.on('error', () => undefined);
    call.write(bytes);
    return call;
  }

  #headers(): Record<string, string> {
    return this.key === undefined ? {} : { authorization: `Bearer ${this.key}` };
  }
}

/** The answer must be this refusal: its status, its code, and words that match. */
export async function refused(
  answer: Promise<Answer>,
  status: number,
  code: string,
  text: RegExp,
): Promise<void> {
  const { status: got, code: named, message } = await answer;
  assert.deepEqual([got, named], [status, code], message);
  assert.match(message, text);
}

/** Asks until there is an answer; rejects after 10 s. */
export async function eventually<T>(look: () => Promise<T | undefined>, what: string): Promise<T> {
  for (let tries = 0; tries < 200; tries++) {
    const found = await look();
    if (found !== undefined) return found;
    await sleep(50);
  }
  throw new Error(`waited 10 s for ${what}`);
}
