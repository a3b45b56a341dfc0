// One pino logger for the process, injected as LOG, and the face Nest wants of it. Lines are JSON on stderr: stdout is the CLI's.
import { setLogger } from '@grpc/grpc-js';
import type { LoggerService } from '@nestjs/common';
import type { Logger } from 'pino';
import { destination, pino } from 'pino';

export type Log = Logger;

/** Nest injection token of the Log. */
export const LOG = Symbol('log');

export function createLog(level: string): Log {
  return pino({ level, base: { name: 'control-plane' } }, destination({ dest: 2, sync: true }));
}

/** Nest's own lines say what it wired: details, so its `log` level is debug here. */
export function nestLogger(log: Log): LoggerService {
  const at =
    (level: 'trace' | 'debug' | 'warn' | 'error' | 'fatal') =>
    (message: unknown, ...rest: unknown[]): void => {
      const context = rest.at(-1);
      const stack = rest.length > 1 && typeof rest[0] === 'string' ? rest[0] : undefined;
      log[level]({ context: typeof context === 'string' ? context : undefined, stack }, String(message));
    };
  return {
    verbose: at('trace'),
    debug: at('debug'),
    log: at('debug'),
    warn: at('warn'),
    error: at('error'),
    fatal: at('fatal'),
  };
}

/** grpc-js would write its own lines to stderr, such as an address it cannot bind, which the caller is told anyway. */
export function logGrpc(log: Log): void {
  const write = (...parts: unknown[]): void => {
    log.debug({ context: 'grpc-js' }, parts.map(String).join(' '));
  };
  setLogger({ error: write, info: write, debug: write });
}
