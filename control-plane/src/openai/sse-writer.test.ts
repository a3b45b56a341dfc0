// The stream's one writer over a real socket: headers late, pings while silent, one end, back-pressure told.
import { ErrorCode } from '@spotlight/proto';
import assert from 'node:assert/strict';
import type { Server, ServerResponse } from 'node:http';
import { createServer, get } from 'node:http';
import type { AddressInfo, Socket } from 'node:net';
import { connect } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { ServiceError } from '../errors/service-error.js';
import { SseWriter } from './sse-writer.js';

const deaf = { onDrain: () => undefined, onGone: () => undefined };
const noHeaders = (): Record<string, string> => ({});

/** Whether it came to hold within so many milliseconds. */
async function until(holds: () => boolean, ms: number): Promise<boolean> {
  for (let waited = 0; !holds() && waited < ms; waited += 5) await sleep(5);
  return holds();
}

/** Asked anew each time: what callbacks push is not in the type of a literal. */
const includes = (events: readonly string[], event: string): boolean => events.includes(event);

describe('SseWriter', () => {
  let server: Server | undefined;
  afterEach(() => {
    server?.closeAllConnections();
    server?.close();
  });

  async function serve(handle: (response: ServerResponse) => void): Promise<number> {
    const listening = createServer((_, response) => {
      handle(response);
    });
    server = listening;
    await new Promise<void>((resolve) => listening.listen(0, '127.0.0.1', resolve));
    return (listening.address() as AddressInfo).port;
  }

  function read(
    port: number,
  ): Promise<{ status: number | undefined; type: string | undefined; text: string }> {
    return new Promise((resolve, reject) => {
      get({ port, host: '127.0.0.1' }, (response) => {
        let text = '';
        response.setEncoding('utf8').on('data', (piece: string) => {
          text += piece;
        });
        response.on('end', () => {
          resolve({ status: response.statusCode, type: response.headers['content-type'], text });
        });
        response.on('error', reject);
      }).on('error', reject);
    });
  }

  it('writes events and ends with [DONE]', async () => {
    const port = await serve((response) => {
      const writer = new SseWriter(response, () => ({ 'x-extra': '1' }), deaf);
      assert.equal(writer.opened, false);
      writer.events(['{"a":1}', '{"b":2}']);
      writer.events([]);
      assert.equal(writer.opened, true);
      writer.end();
      writer.events(['{"late":true}']);
      writer.end();
    });
    const { text, type } = await read(port);
    assert.equal(text, 'data: {"a":1}\n\ndata: {"b":2}\n\ndata: [DONE]\n\n');
    assert.equal(type, 'text/event-stream; charset=utf-8');
  });

  it('tells an error that comes after the headers as the last event', async () => {
    const port = await serve((response) => {
      const writer = new SseWriter(response, noHeaders, deaf);
      writer.events(['{}']);
      writer.fail(new ServiceError(ErrorCode.WORKER_LOST, 'It died; try again.'));
    });
    const { text, status } = await read(port);
    assert.equal(status, 200);
    const events = text.trimEnd().split('\n\n');
    assert.equal(events.at(-1), 'data: [DONE]');
    const body = JSON.parse((events.at(-2) ?? '').slice('data: '.length)) as { error: { code: string } };
    assert.equal(body.error.code, 'worker_lost');
  });

  it('pings while nothing else is written', async () => {
    const port = await serve((response) => {
      const writer = new SseWriter(response, noHeaders, deaf, 10);
      void sleep(60).then(() => {
        writer.end();
      });
    });
    const { text } = await read(port);
    assert.match(text, /^(: ping\n\n){2,}data: \[DONE\]\n\n$/);
  });

  it('leaves the response alone when the answer is to be an error of its own', async () => {
    const port = await serve((response) => {
      const writer = new SseWriter(response, noHeaders, deaf, 5);
      writer.abandon();
      void sleep(30).then(() => {
        assert.equal(writer.opened, false);
        response.writeHead(400).end('no');
      });
    });
    assert.deepEqual(await read(port), { status: 400, type: undefined, text: 'no' });
  });

  it('says when the socket is full, when it has drained, and when the client has gone', async () => {
    const heard: ('drain' | 'gone')[] = [];
    let writer: SseWriter | undefined;
    const port = await serve((response) => {
      writer = new SseWriter(response, noHeaders, {
        onDrain: () => heard.push('drain'),
        onGone: () => heard.push('gone'),
      });
    });
    const socket = await new Promise<Socket>((resolve) => {
      const opened = connect(port, '127.0.0.1', () => {
        opened.write('GET / HTTP/1.1\r\nhost: x\r\n\r\n');
        opened.pause();
        resolve(opened);
      });
    });
    while (writer === undefined) await sleep(1);
    // A block is larger than the buffer, so every write fills it; it stays full once the kernel takes no more.
    const block = JSON.stringify('x'.repeat(65_536));
    for (let blocks = 0; writer.open; blocks++) {
      assert.ok(blocks < 1000, 'a client that does not read never filled the socket');
      writer.events([block]);
      await until(() => writer?.open === true, 100);
    }
    heard.splice(0);
    socket.resume();
    while (!includes(heard, 'drain')) await sleep(1);
    assert.equal(writer.open, true);
    socket.destroy();
    while (!includes(heard, 'gone')) await sleep(1);
    assert.equal(heard.filter((event) => event === 'gone').length, 1);
  });
});
