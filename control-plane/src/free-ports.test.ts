import assert from 'node:assert/strict';
import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { createServer } from 'node:net';
import { checkPorts } from './free-ports.js';

describe('checkPorts', () => {
  it('names door, port and flag of the first that is in use, and binds none for longer', async () => {
    const taken = createServer().listen(0, '127.0.0.1');
    await once(taken, 'listening');
    const { port } = taken.address() as AddressInfo;
    const host = '127.0.0.1';
    for (const [door, flag] of [
      ['HTTP', '--http-port'],
      ['gRPC', '--grpc-port'],
      ['metrics', '--metrics-port'],
    ] as const) {
      const wanted = [
        { door: 'HTTP', host, port: 0 },
        { door, host, port },
      ] as const;
      await assert.rejects(checkPorts(wanted), { message: new RegExp(`${door} port .*:${port} .*${flag}`) });
    }
    taken.close();
    await once(taken, 'close');
    await checkPorts([{ door: 'HTTP', host, port }]);
    await checkPorts([{ door: 'HTTP', host: '[::1]', port: 0 }]);
    const again = createServer().listen(port, host);
    await once(again, 'listening');
    again.close();
  });
});
