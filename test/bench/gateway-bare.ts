// The least a server can do for the gateway benchmark's load: node:http, the same events at the same pace, nothing else.
import type { ServerResponse } from 'node:http';
import { createServer } from 'node:http';
import { clock } from './clock.js';

interface Open {
  readonly response: ServerResponse;
  readonly arrived: bigint;
  left: number;
}

/** Resolves with its URL. Ends with the process. */
export function serveBare(stepMs: number): Promise<string> {
  const running = new Set<Open>();
  const server = createServer((request, response) => {
    let body = '';
    request.on('data', (text: Buffer) => {
      body += text.toString();
    });
    request.on('end', () => {
      const { max_tokens: left } = JSON.parse(body) as { max_tokens: number };
      running.add({ response, arrived: clock(), left });
    });
  });
  setInterval(() => {
    // All tokens of a step come to be at once, as in a worker.
    const made = clock();
    // Youngest first, as the gateway does.
    for (const open of [...running].reverse()) {
      const { response, arrived, left } = open;
      const first = !response.headersSent;
      if (first) response.writeHead(200, { 'content-type': 'text/event-stream' });
      const text = `${first ? arrived : ''},${made};`;
      response.socket?.cork();
      response.write(`data: ${JSON.stringify({ choices: [{ index: 0, delta: { content: text } }] })}\n\n`);
      response.socket?.uncork();
      open.left = left - 1;
      if (open.left > 0) continue;
      response.end('data: [DONE]\n\n');
      running.delete(open);
    }
  }, stepMs);
  return new Promise((resolve) => {
    server.listen(0, '127.0.0.1', () => {
      const address = server.address();
      if (address === null || typeof address === 'string') throw new Error('the bare server has no port');
      resolve(`http://127.0.0.1:${address.port}`);
    });
  });
}
