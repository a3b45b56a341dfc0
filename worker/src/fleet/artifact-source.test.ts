import assert from 'node:assert/strict';
import type { ServerWritableStream } from '@grpc/grpc-js';
import { Server, ServerCredentials, status } from '@grpc/grpc-js';
import type { FetchArtifactRequest, FetchArtifactResponse } from '@spotlight/proto';
import { FleetService } from '@spotlight/proto';
import type { Piece } from '../artifact/store.js';
import { StoreError } from '../artifact/store.js';
import { artifactSource } from './artifact-source.js';
import { Transport } from '@spotlight/proto/transport';
import { dialer } from './dial.js';

type Call = ServerWritableStream<FetchArtifactRequest, FetchArtifactResponse>;

describe('artifactSource', () => {
  const servers: Server[] = [];
  const asked: FetchArtifactRequest[] = [];
  async function serve(answer: (call: Call) => void): Promise<string> {
    const server = new Server();
    servers.push(server);
    server.addService(FleetService, {
      join: () => undefined,
      fetchArtifact: (call: Call) => {
        asked.push(call.request);
        answer(call);
      },
    });
    return new Promise((resolve, reject) => {
      server.bindAsync('127.0.0.1:0', ServerCredentials.createInsecure(), (error, port) => {
        if (error) reject(error);
        else resolve(`127.0.0.1:${port}`);
      });
    });
  }
  afterEach(() => {
    for (const server of servers.splice(0)) server.forceShutdown();
    asked.length = 0;
  });
  const nothing = (call: Call): void => {
    call.emit('error', { code: status.NOT_FOUND, details: 'no such artifact' });
  };
  const whole = (call: Call): void => {
    call.write({ chunk: Buffer.from('abc'), totalBytes: 5n });
    call.write({ chunk: Buffer.from('de'), totalBytes: 5n });
    call.end();
  };
  async function read(addresses: readonly string[]): Promise<Piece[]> {
    const pieces: Piece[] = [];
    for await (const piece of artifactSource(addresses, 'token', dialer(Transport.plain))('aa', 7))
      pieces.push(piece);
    return pieces;
  }
  const code =
    (expected: string, message: RegExp) =>
    (error: unknown): boolean =>
      error instanceof StoreError && error.code === expected && message.test(error.message);

  it('asks one control plane after the other, from the byte it is told, with the join token', async () => {
    const pieces = await read([await serve(nothing), await serve(whole)]);
    assert.equal(Buffer.concat(pieces.map(({ chunk }) => chunk)).toString(), 'abcde');
    assert.ok(pieces.every(({ totalBytes }) => totalBytes === 5));
    assert.deepEqual(asked, Array(2).fill({ digest: 'aa', offset: 7n, joinToken: 'token' }));
  });

  it('says that a transfer broke off, and by whom', async () => {
    const broken = await serve((call) => {
      call.write({ chunk: Buffer.from('abc'), totalBytes: 5n });
      call.emit('error', { code: status.UNAVAILABLE, details: 'broke off' });
    });
    await assert.rejects(read([broken]), code('UNREACHABLE', new RegExp(`${broken}: .*broke off`)));
  });

  it('says whether nobody has it or nobody could be asked', async () => {
    const lacking = await serve(nothing);
    await assert.rejects(read([lacking, lacking]), code('NOT_FOUND', /no such artifact/));
    await assert.rejects(read(['127.0.0.1:1', lacking]), code('UNREACHABLE', /127\.0\.0\.1:1/));
    await assert.rejects(read([]), code('NOT_FOUND', /joins no control plane/));
  });
});
