// TLS on every port of a real worker and a control plane: mutual between them and for clients, and for whom it is not meant no way in.
import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { request } from 'node:https';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { ChannelCredentials } from '@grpc/grpc-js';
import { credentials } from '@grpc/grpc-js';
import { ConfigError, loadConfig } from '@spotlight/control-plane/config/config.js';
import { startControlPlane } from '@spotlight/control-plane/start.js';
import {
  DescribeRequest,
  FleetClient,
  GenerateRequest,
  GenerationClient,
  WorkerClient,
} from '@spotlight/proto';
import type { Authority, Identity } from './certificates.js';
import { authority, hasOpenssl } from './certificates.js';
import type { Gateway } from './gateway.js';
import { START_MS, startGateway, until } from './gateway.js';
import { WorkerProcess } from './worker-process.js';

/** What one end shows and whom it believes; no identity: only believes. */
interface End {
  readonly ca: string;
  readonly own?: Identity;
}

const NAME = 'fleet.test';

describe('TLS', () => {
  const undo: (() => unknown)[] = [];
  let folder: string;
  let fleet: Authority;
  let gateway: Gateway;
  let worker: WorkerProcess;
  let member: End;
  let outsiders: ReadonlyMap<string, End>;

  before(async function () {
    this.timeout(START_MS);
    if (!hasOpenssl()) {
      process.stderr.write('skipped: there is no openssl command to make certificates with\n');
      this.skip();
    }
    folder = mkdtempSync(join(tmpdir(), 'spotlight-tls-'));
    undo.push(() => {
      rmSync(folder, { recursive: true });
    });
    fleet = authority(folder, 'fleet');
    const other = authority(folder, 'other');
    // By name only: the processes below dial each other by address, as a fleet of pods does.
    const [control, serving] = [fleet.issue('control', `DNS:${NAME}`), fleet.issue('worker', `DNS:${NAME}`)];
    member = { ca: fleet.cert, own: fleet.issue('client', 'DNS:client') };
    outsiders = new Map([
      ['without a certificate', { ca: fleet.cert }],
      ['with one of another authority', { ca: fleet.cert, own: other.issue('stranger', `DNS:${NAME}`) }],
    ]);
    const files = ({ cert, key }: Identity): [string, string, string] => [cert, key, fleet.cert];
    const [tlsCert, tlsKey, tlsCa] = files(control);
    gateway = await startGateway({ tlsCert, tlsKey, tlsCa, tlsName: NAME });
    undo.push(() => gateway.close());
    const [cert, key, ca] = files(serving);
    worker = await WorkerProcess.start([
      ...['--join', gateway.grpc, '--worker-id', 'secure', '--kv-memory', '128MiB', '--threads', '1'],
      ...['--tls-cert', cert, '--tls-key', key, '--tls-ca', ca, '--tls-name', NAME],
    ]);
    undo.push(() => worker.end());
  });
  after(async () => {
    for (const step of undo.reverse()) await step();
  });

  const channel = ({ ca, own }: End): ChannelCredentials =>
    credentials.createSsl(
      readFileSync(ca),
      own === undefined ? null : readFileSync(own.key),
      own === undefined ? null : readFileSync(own.cert),
    );
  const NAMED = { 'grpc.ssl_target_name_override': NAME };

  /** Status of GET by HTTPS; rejects when no connection comes about. */
  function get(url: string, { ca, own }: End): Promise<number> {
    return new Promise((resolve, reject) => {
      const pair = own === undefined ? {} : { cert: readFileSync(own.cert), key: readFileSync(own.key) };
      const options = { ca: readFileSync(ca), servername: NAME, agent: false as const, ...pair };
      request(url, options, (response) => {
        response.resume();
        resolve(response.statusCode ?? 0);
      })
        .on('error', reject)
        .end();
    });
  }

  /** Resolves when the address answers a call of this end, whatever it answers; rejects when it cannot be reached. */
  function reach(
    kind: 'generation' | 'worker',
    address: string,
    channelCredentials: ChannelCredentials,
  ): Promise<void> {
    const Client = kind === 'generation' ? GenerationClient : WorkerClient;
    const client = new Client(address, channelCredentials, NAMED);
    return new Promise<void>((resolve, reject) => {
      client.waitForReady(Date.now() + 1_500, (error) => {
        if (error) reject(error);
        else resolve();
      });
    }).finally(() => {
      client.close();
    });
  }

  it('lets a worker join and serve, each side checking the other by name', async () => {
    const ready = (): boolean =>
      gateway.controlPlane.fleet.snapshots().some(({ state }) => state === 'ready');
    await until(ready, 'the worker to be dialled back');
    assert.match(gateway.http, /^https:/);
    const client = new GenerationClient(gateway.grpc, channel(member), NAMED);
    const call = client.generate(
      GenerateRequest.fromPartial({ prompt: { $case: 'text', value: 'Hello' }, sampling: { maxTokens: 3 } }),
    );
    let tokens = 0;
    for await (const chunk of call) {
      for (const { tokenIds } of (chunk as { deltas: { tokenIds: number[] }[] }).deltas)
        tokens += tokenIds.length;
    }
    assert.ok(tokens > 0);
    client.close();
  }).timeout(30_000);

  it('opens all four ports to a certificate of the fleet', async () => {
    assert.equal(await get(`${gateway.http}/livez`, member), 200);
    assert.equal(await get(`${gateway.http}/metrics`, member), 200);
    assert.equal(await get(`https://${worker.announced.metrics}/metrics`, member), 200);
    await reach('generation', gateway.grpc, channel(member));
    const client = new WorkerClient(worker.announced.grpc, channel(member), NAMED);
    const described = await new Promise<string>((resolve, reject) => {
      client.describe(DescribeRequest.fromPartial({}), (error, answer) => {
        if (error) reject(error);
        else resolve(answer.workerId);
      });
    });
    assert.equal(described, 'secure');
    client.close();
  });

  it('opens none to anybody else, nor in the clear', async () => {
    const http = gateway.http.replace('https:', 'http:');
    await assert.rejects(fetch(`${http}/livez`));
    await assert.rejects(fetch(`http://${worker.announced.metrics}/livez`));
    await assert.rejects(reach('generation', gateway.grpc, credentials.createInsecure()));
    await assert.rejects(reach('worker', worker.announced.grpc, credentials.createInsecure()));
    for (const [who, end] of outsiders) {
      await assert.rejects(get(`${gateway.http}/livez`, end), who);
      await assert.rejects(get(`https://${worker.announced.metrics}/livez`, end), who);
      await assert.rejects(described(worker.announced.grpc, end), who);
      await assert.rejects(joined(gateway.grpc, end), who);
    }
  }).timeout(60_000);

  /** TLS 1.3 tells a client after its handshake that its certificate will not do: only a call shows it. */
  function described(address: string, end: End): Promise<unknown> {
    const client = new WorkerClient(address, channel(end), NAMED);
    return new Promise((resolve, reject) => {
      client.describe(DescribeRequest.fromPartial({}), (error, answer) => {
        if (error) reject(error);
        else resolve(answer);
      });
    }).finally(() => {
      client.close();
    });
  }

  function joined(address: string, end: End): Promise<unknown> {
    const client = new FleetClient(address, channel(end), NAMED);
    return new Promise((resolve, reject) => {
      const call = client.join();
      call.on('metadata', resolve);
      call.on('error', reject);
      call.on('end', () => {
        reject(new Error('the stream ended'));
      });
    }).finally(() => {
      client.close();
    });
  }

  it('asks clients for no certificate without an authority', async () => {
    const { cert: tlsCert, key: tlsKey } = fleet.issue('public', `DNS:${NAME}`);
    const open = await startGateway({ tlsCert, tlsKey });
    try {
      assert.equal(await get(`${open.http}/livez`, { ca: fleet.cert }), 200);
      await reach('generation', open.grpc, channel({ ca: fleet.cert }));
    } finally {
      await open.close();
    }
  }).timeout(START_MS);

  it('says which flag is wrong', async () => {
    const given = (flags: object): object => ({
      data: folder,
      httpPort: '0',
      grpcPort: '0',
      logLevel: 'silent',
      ...flags,
    });
    assert.throws(() => loadConfig(given({ tlsCert: member.ca }), {}), ConfigError);
    assert.throws(() => loadConfig(given({ tlsName: 'x' }), {}), /--tls-name .* takes --tls-ca/);
    const { cert = '', key = '' } = member.own ?? {};
    await assert.rejects(
      startControlPlane(loadConfig(given({ tlsCert: join(folder, 'none.pem'), tlsKey: key }), {})),
      /--tls-cert .*none\.pem: cannot be read/,
    );
    await assert.rejects(
      startControlPlane(loadConfig(given({ tlsCert: key, tlsKey: cert }), {})),
      /give PEM files/,
    );
  });
});
