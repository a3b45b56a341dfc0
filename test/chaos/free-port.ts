// A port for a server that must come back on the one its peers know.
import assert from 'node:assert/strict';
import { createServer } from 'node:net';

/** A port that is free now; the server under test must come back on the one that its worker knows. */
export async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const address = server.address();
  assert.ok(address !== null && typeof address === 'object');
  await new Promise((resolve) => server.close(resolve));
  return address.port;
}
