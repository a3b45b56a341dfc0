// A running server as the source of text: a plain client of spotlight.v1.Generation.
import { credentials, Metadata, status } from '@grpc/grpc-js';
import type { GenerateRequest, GenerateResponse } from '@spotlight/proto';
import { GenerationClient } from '@spotlight/proto';
import { CliError, EXIT } from './cli-error.js';
import type { TextSource } from './generate.js';

/** Accepts host:port, also with grpc:// or http:// before it; https:// and grpcs:// use TLS. */
export function parseTarget(url: string): { target: string; tls: boolean } {
  const match = /^(?:(grpcs?|https?):\/\/)?([^/]+:\d+)\/?$/.exec(url);
  if (match?.[2] === undefined) {
    throw new CliError(
      `--url "${url}" must be the server's gRPC host:port, such as 127.0.0.1:50051.`,
      EXIT.usage,
    );
  }
  return { target: match[2], tls: match[1] === 'grpcs' || match[1] === 'https' };
}

export class RemoteServer implements TextSource {
  private readonly client: GenerationClient;
  private readonly metadata = new Metadata();

  constructor(url: string, apiKey: string | undefined) {
    const { target, tls } = parseTarget(url);
    this.client = new GenerationClient(target, tls ? credentials.createSsl() : credentials.createInsecure());
    if (apiKey !== undefined) this.metadata.set('authorization', `Bearer ${apiKey}`);
  }

  generate(
    request: GenerateRequest,
    onChunk: (chunk: GenerateResponse) => void,
    signal: AbortSignal,
  ): Promise<void> {
    return new Promise((resolve, reject) => {
      const call = this.client.generate(request, this.metadata);
      const cancel = (): void => {
        call.cancel();
      };
      signal.addEventListener('abort', cancel, { once: true });
      if (signal.aborted) cancel();
      call.on('data', onChunk);
      call.once('error', (error) => {
        if ((error as { code?: status }).code !== status.CANCELLED || !signal.aborted) reject(error);
      });
      call.once('status', () => {
        signal.removeEventListener('abort', cancel);
        resolve();
      });
    });
  }

  close(): Promise<void> {
    this.client.close();
    return Promise.resolve();
  }
}
