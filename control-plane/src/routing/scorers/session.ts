// Prefers one worker a session by rendezvous hashing: no table to share between replicas, and when a worker goes only its
// own sessions move. Requests without a session score 0 everywhere.
import { hash64 } from '../hash.js';
import type { Scorer } from '../policy.js';

export const sessionScorer: Scorer = {
  name: 'session',
  score: (workers, request) => {
    const { sessionId } = request;
    if (sessionId === undefined) return workers.map(() => 0);
    const draws = workers.map((worker) => hash64(`${sessionId}\0${worker.workerId}`));
    const best = draws.reduce((high, draw) => (draw > high ? draw : high), -1n);
    return draws.map((draw) => (draw === best ? 1 : 0));
  },
};
