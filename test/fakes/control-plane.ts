// The control plane as a worker sees it, under a test's hand: a real gRPC Fleet service that records reports, says the directive it
// is given to every worker that joins, and serves artifacts from memory, breaking off where it is told to.
import type { ServerDuplexStream, ServerWritableStream } from '@grpc/grpc-js';
import { Server, ServerCredentials, status } from '@grpc/grpc-js';
import type {
  ArtifactSlot,
  FetchArtifactRequest,
  FetchArtifactResponse,
  Hello,
  JoinRequest,
  Report,
} from '@spotlight/proto';
import { Directive, FleetService, JoinResponse } from '@spotlight/proto';

type JoinCall = ServerDuplexStream<JoinRequest, JoinResponse>;
type FetchCall = ServerWritableStream<FetchArtifactRequest, FetchArtifactResponse>;

const CHUNK_BYTES = 64 * 1024;

export class FakeControlPlane {
  readonly hellos: Hello[] = [];
  readonly artifacts = new Map<string, Buffer>();
  /** Offsets asked for, by digest. */
  readonly fetches = new Map<string, number[]>();
  /** The next transfer breaks off after so many bytes. */
  breakAfter: number | undefined;
  last: Report | undefined;
  private readonly calls = new Set<JoinCall>();
  private readonly waiters = new Set<() => void>();
  private directive: Directive | undefined;
  private generation = 0n;

  private constructor(
    private readonly server: Server,
    readonly address: string,
  ) {}

  static async start(): Promise<FakeControlPlane> {
    const server = new Server();
    const bound = await new Promise<number>((resolve, reject) => {
      server.addService(FleetService, {
        join: (call: JoinCall) => {
          plane.join(call);
        },
        fetchArtifact: (call: FetchCall) => {
          plane.fetch(call);
        },
      });
      server.bindAsync('127.0.0.1:0', ServerCredentials.createInsecure(), (error, port) => {
        if (error) reject(error);
        else resolve(port);
      });
    });
    const plane = new FakeControlPlane(server, `127.0.0.1:${bound}`);
    return plane;
  }

  /** Wants these artifacts held from now on; 'aa*' is the active one. Gives the directive's generation. */
  want(...artifacts: readonly string[]): bigint {
    this.generation += 1n;
    this.directive = Directive.fromPartial({
      generation: this.generation,
      slots: artifacts.map((text) => ({
        artifactDigest: text.replace('*', ''),
        active: text.endsWith('*'),
      })),
      reportIntervalMs: 100,
    });
    for (const call of this.calls) this.direct(call);
    return this.generation;
  }

  /** The first report for which `ready` holds, looked at as they come. Rejects with the last one when none does in time. */
  async until(what: string, ready: (report: Report) => boolean, withinMs = 30_000): Promise<Report> {
    const deadline = performance.now() + withinMs;
    for (;;) {
      if (this.last !== undefined && ready(this.last)) return this.last;
      const left = deadline - performance.now();
      if (left <= 0) {
        const shown = JSON.stringify(this.last, (_key, value: unknown) =>
          typeof value === 'bigint' ? Number(value) : value,
        );
        throw new Error(`${what}: not within ${withinMs} ms; the last report is ${shown}`);
      }
      await new Promise<void>((resolve) => {
        const timer = setTimeout(wake, left);
        const { waiters } = this;
        waiters.add(wake);
        function wake(): void {
          clearTimeout(timer);
          waiters.delete(wake);
          resolve();
        }
      });
    }
  }

  slot(digest: string): ArtifactSlot | undefined {
    return this.last?.slots.find(({ artifactDigest }) => artifactDigest === digest);
  }

  stop(): void {
    this.server.forceShutdown();
  }

  private join(call: JoinCall): void {
    this.calls.add(call);
    call.on('data', ({ message }: JoinRequest) => {
      if (message?.$case === 'hello') {
        this.hellos.push(message.value);
        this.direct(call);
      } else if (message !== undefined) {
        this.last = message.value;
      }
      for (const wake of [...this.waiters]) wake();
    });
    const gone = (): void => {
      this.calls.delete(call);
    };
    call.on('end', () => {
      gone();
      call.end();
    });
    call.on('error', gone);
    call.on('cancelled', gone);
  }

  private direct(call: JoinCall): void {
    if (this.directive !== undefined) call.write(JoinResponse.fromPartial({ directive: this.directive }));
  }

  private fetch(call: FetchCall): void {
    const { digest, offset } = call.request;
    const bytes = this.artifacts.get(digest);
    const asked = this.fetches.get(digest) ?? [];
    this.fetches.set(digest, [...asked, Number(offset)]);
    if (bytes === undefined) {
      call.emit('error', { code: status.NOT_FOUND, details: 'the registry has no such artifact' });
      return;
    }
    const until = this.breakAfter ?? bytes.length;
    this.breakAfter = undefined;
    const totalBytes = BigInt(bytes.length);
    if (Number(offset) >= until) call.write({ chunk: Buffer.alloc(0), totalBytes });
    for (let at = Number(offset); at < until; at += CHUNK_BYTES)
      call.write({ chunk: bytes.subarray(at, Math.min(at + CHUNK_BYTES, until)), totalBytes });
    if (until < bytes.length) call.emit('error', { code: status.UNAVAILABLE, details: 'broke off' });
    else call.end();
  }
}
