// The worker's one log: JSON lines on stderr, since stdout is for what a parent process reads (--announce).
import type { Logger } from 'pino';
import { destination, pino } from 'pino';

export type { Logger };

export function makeLog(level: string): Logger {
  return pino({ name: 'worker', level }, destination({ fd: 2, sync: true }));
}
