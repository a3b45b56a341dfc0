// How the processes of a fleet reach each other: in the clear, or by TLS. One identity serves all of a process's ports and is shown where
// it dials; a certificate authority makes it mutual, for peers then must show certificates of that authority.
import { readFileSync } from 'node:fs';
import { createSecureContext } from 'node:tls';
import type { ChannelCredentials, ChannelOptions } from '@grpc/grpc-js';
import { credentials, ServerCredentials } from '@grpc/grpc-js';

/** PEM files. */
export interface TransportFiles {
  readonly tlsCert?: string | undefined;
  readonly tlsKey?: string | undefined;
  /** Peers' certificates are checked with it, and demanded. */
  readonly tlsCa?: string | undefined;
  /** Name expected in the certificates of those dialled, instead of the host dialled. */
  readonly tlsName?: string | undefined;
}

/** What node:https servers take. */
export interface HttpsOptions {
  readonly cert: Buffer;
  readonly key: Buffer;
  readonly ca?: Buffer;
  readonly requestCert?: true;
  readonly rejectUnauthorized?: true;
  readonly minVersion: 'TLSv1.2';
}

/** A file that cannot be read or is not what it should be; the message names the flag. */
export class TransportError extends Error {
  override readonly name = 'TransportError';
}

export class Transport {
  /** No TLS at all. */
  static readonly plain = new Transport({}, undefined, undefined, undefined);

  private constructor(
    private readonly files: TransportFiles,
    private readonly cert: Buffer | undefined,
    private readonly key: Buffer | undefined,
    private readonly ca: Buffer | undefined,
  ) {}

  /** @throws TransportError */
  static load(files: TransportFiles): Transport {
    const { tlsCert, tlsKey, tlsCa } = files;
    const contradiction = contradictionIn(files);
    if (contradiction !== undefined) throw new TransportError(contradiction);
    if (tlsCert === undefined && tlsCa === undefined) return Transport.plain;
    const transport = new Transport(
      files,
      read('--tls-cert', tlsCert),
      read('--tls-key', tlsKey),
      read('--tls-ca', tlsCa),
    );
    transport.#check();
    return transport;
  }

  /** Whether this process's ports speak TLS. */
  get serves(): boolean {
    return this.cert !== undefined;
  }

  /** Whether it dials others by TLS. */
  get dials(): boolean {
    return this.ca !== undefined;
  }

  serverCredentials(): ServerCredentials {
    if (this.cert === undefined || this.key === undefined) return ServerCredentials.createInsecure();
    const pair = { cert_chain: this.cert, private_key: this.key };
    return ServerCredentials.createSsl(this.ca ?? null, [pair], this.ca !== undefined);
  }

  channelCredentials(): ChannelCredentials {
    if (this.ca === undefined) return credentials.createInsecure();
    return credentials.createSsl(this.ca, this.key ?? null, this.cert ?? null);
  }

  /** Beside channelCredentials. */
  channelOptions(): ChannelOptions {
    const { tlsName } = this.files;
    if (!this.dials || tlsName === undefined) return {};
    return { 'grpc.ssl_target_name_override': tlsName, 'grpc.default_authority': tlsName };
  }

  httpsOptions(): HttpsOptions | undefined {
    if (this.cert === undefined || this.key === undefined) return undefined;
    const mutual =
      this.ca === undefined ? {} : ({ ca: this.ca, requestCert: true, rejectUnauthorized: true } as const);
    return { cert: this.cert, key: this.key, minVersion: 'TLSv1.2', ...mutual };
  }

  #check(): void {
    const { cert, key, ca } = this;
    try {
      createSecureContext({ ...(cert && key && { cert, key }), ...(ca && { ca }) });
    } catch (error) {
      throw new TransportError(
        `--tls-cert, --tls-key, --tls-ca: ${(error as Error).message}; give PEM files, and the key of that certificate.`,
        { cause: error },
      );
    }
  }
}

/** Flags that cannot stand together, or undefined. */
export function contradictionIn({ tlsCert, tlsKey, tlsCa, tlsName }: TransportFiles): string | undefined {
  if ((tlsCert === undefined) !== (tlsKey === undefined)) {
    return '--tls-cert and --tls-key go together: give both or neither';
  }
  if (tlsName !== undefined && tlsCa === undefined) {
    return '--tls-name is for checking peers, which takes --tls-ca';
  }
  return undefined;
}

function read(flag: string, file: string | undefined): Buffer | undefined {
  if (file === undefined) return undefined;
  try {
    return readFileSync(file);
  } catch (error) {
    throw new TransportError(`${flag} ${file}: cannot be read (${(error as Error).message})`, {
      cause: error,
    });
  }
}
