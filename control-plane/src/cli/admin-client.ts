// A running server's admin API for commands: JSON in and out, bytes up. On node:http and not fetch: a validation may be silent for
// minutes, and an upload has to see an answer that comes before its last byte.
import type { IncomingMessage, RequestOptions } from 'node:http';
import { request as httpRequest } from 'node:http';
import { request as httpsRequest } from 'node:https';
import type { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import type { Command } from 'commander';
import { Option } from 'commander';
import { CliError, EXIT } from './cli-error.js';

export interface AdminFlags {
  readonly url: string;
  readonly apiKey?: string;
}

export const DEFAULT_URL = 'http://127.0.0.1:8080';

export function addAdminOptions(command: Command): Command {
  return command
    .addOption(
      new Option('--url <url>', "a running server's HTTP address").env('SPOTLIGHT_URL').default(DEFAULT_URL),
    )
    .addOption(new Option('--api-key <key>', 'API key of scope admin').env('SPOTLIGHT_API_KEY'));
}

/** No whole answer came: the connection was refused or broke. Worth another try. */
export class Unanswered extends Error {
  override readonly name = 'Unanswered';
}

/** What the server refused, in its own words. */
export class Refused extends CliError {
  constructor(
    readonly status: number,
    readonly code: string | null,
    message: string,
  ) {
    super(message);
  }
}

export interface BytesBody {
  readonly body: Readable;
  readonly length: number;
  readonly headers: Readonly<Record<string, string>>;
}

export class AdminClient {
  readonly #base: URL;
  readonly #headers: Readonly<Record<string, string>>;

  /** @throws CliError for what is no address */
  constructor({ url, apiKey }: AdminFlags) {
    const whole = /^[a-z]+:\/\//i.test(url) ? url : `http://${url}`;
    if (!/^https?:\/\//i.test(whole) || !URL.canParse(whole)) {
      throw new CliError(
        `--url "${url}" must be the server's HTTP address, such as ${DEFAULT_URL}.`,
        EXIT.usage,
      );
    }
    this.#base = new URL(whole.endsWith('/') ? whole : `${whole}/`);
    this.#headers = apiKey === undefined ? {} : { authorization: `Bearer ${apiKey}` };
  }

  /**
   * [async] @param path below /api/v1/
   * @throws Refused with the server's words, CliError when nobody answers
   */
  async ask<T>(method: string, path: string, body?: unknown): Promise<T> {
    try {
      return await this.try<T>(method, path, body);
    } catch (error) {
      if (error instanceof Unanswered) throw new CliError(error.message, EXIT.failure, { cause: error });
      throw error;
    }
  }

  /** [async] The same, rejecting with Unanswered for whoever wants to try again. */
  async try<T>(method: string, path: string, body?: unknown): Promise<T> {
    const text = body === undefined ? '' : JSON.stringify(body);
    const headers: Record<string, string> =
      body === undefined
        ? {}
        : { 'content-type': 'application/json', 'content-length': String(Buffer.byteLength(text)) };
    return this.#send<T>(method, path, headers, (request) => {
      request.end(text);
    });
  }

  /** [async] Sends bytes. Rejects with Unanswered or Refused. */
  async upload<T>(method: string, path: string, { body, length, headers }: BytesBody): Promise<T> {
    const all = {
      ...headers,
      'content-type': 'application/octet-stream',
      'content-length': String(length),
    };
    return this.#send<T>(method, path, all, (request) => {
      // A broken pipe is told by the request itself, or by an answer that was there before the last byte.
      pipeline(body, request).catch(() => undefined);
    });
  }

  #send<T>(
    method: string,
    path: string,
    headers: Readonly<Record<string, string>>,
    write: (request: ReturnType<typeof httpRequest>) => void,
  ): Promise<T> {
    const url = new URL(`api/v1/${path}`, this.#base);
    const options: RequestOptions = { method, headers: { ...this.#headers, ...headers } };
    return new Promise((resolve, reject) => {
      let answered = false;
      const send = url.protocol === 'https:' ? httpsRequest : httpRequest;
      const request = send(url, options, (response) => {
        answered = true;
        read<T>(response)
          .then(resolve, reject)
          .finally(() => request.destroy());
      });
      request.on('error', (error) => {
        if (!answered) reject(new Unanswered(`${this.#base.origin} does not answer (${reasonOf(error)}).`));
      });
      write(request);
    });
  }
}

async function read<T>(response: IncomingMessage): Promise<T> {
  const chunks: Buffer[] = [];
  try {
    for await (const chunk of response) chunks.push(chunk as Buffer);
  } catch (error) {
    throw new Unanswered(`The answer broke off (${reasonOf(error)}).`);
  }
  const text = Buffer.concat(chunks).toString('utf8');
  const status = response.statusCode ?? 0;
  const value = parse(text);
  if (status >= 200 && status < 300) return value as T;
  const { message, code = null } = (value as { error?: { message?: string; code?: string | null } } | null)
    ?.error ?? { message: undefined };
  throw new Refused(status, code, message ?? `The server answered ${status} and nothing that could be read.`);
}

function parse(text: string): unknown {
  try {
    return text === '' ? null : JSON.parse(text);
  } catch {
    return null;
  }
}

function reasonOf(error: unknown): string {
  const { code, message } = error as NodeJS.ErrnoException;
  return code === 'ECONNREFUSED' ? 'connection refused; is it running?' : (code ?? message);
}
