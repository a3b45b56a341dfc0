// Addresses as text, and the error of a port that cannot be had, for both servers of the worker.

export class BindError extends Error {
  override readonly name = 'BindError';
}

export function joinAddress(host: string, port: number | string): string {
  return host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`;
}

/** `127.0.0.1:8100` -> `8100`. */
export function portOf(address: string): string {
  return address.slice(address.lastIndexOf(':') + 1);
}
