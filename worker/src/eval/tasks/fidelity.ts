// fidelity: how far greedy tokens agree with dense attention's, after the same prompt of text.
import type { Document } from '../sources.js';
import { editDistance, commonSubsequence } from '../scores.js';
import type { Case } from '../trial.js';
import { generate, prefill, wholeBlocks } from '../continuation.js';
import type { Continuation } from '../continuation.js';
import { settingsOf } from '../methods.js';
import type { Method } from '../methods.js';
import { counted, decode, windowsOf } from './task.js';
import type { Lab } from './task.js';

const TOKENS = 128;

export async function* fidelityCases(
  lab: Lab,
  documents: readonly Document[],
  windows: number,
  dense: Method,
): AsyncGenerator<Case> {
  const { engine, length } = lab;
  for (const { name, place, ids } of await windowsOf(lab, documents, windows)) {
    const prompt = ids.slice(0, length - TOKENS);
    // At least one token past the blocks: something must be run to draw from.
    const kept = wholeBlocks(prompt.length - 1);
    const continuation: Continuation = {
      text: prompt.slice(0, kept),
      dense: prompt.slice(kept),
      sparse: [],
    };
    let truth: number[] = [];
    yield {
      task: 'fidelity',
      name: `${name} ${place}`,
      context: length,
      async prepare() {
        await prefill(engine, continuation.text);
        const attention = settingsOf(dense, length, { denseLayers: 0, tailFrom: 0, sink: 0, recent: 0 });
        truth = await generate(
          engine,
          continuation,
          { method: dense, tokens: length, attention },
          TOKENS,
          NEVER,
        );
      },
      run: (setting) =>
        counted(engine, length - TOKENS / 2, async () => {
          const drawn = await generate(engine, continuation, setting, TOKENS, NEVER);
          const measured = [
            { metric: 'ROUGE-L', value: agreement(decode(lab, drawn), decode(lab, truth)) },
            { metric: 'edit similarity', value: 1 - editDistance(drawn, truth) / TOKENS },
            { metric: 'tokens alike from the start', value: alike(drawn, truth) },
          ];
          return measured.map((one) => ({ group: name, ...one }));
        }),
    };
  }
}

/** Ends by count alone, so that lengths compare. */
const NEVER: ReadonlySet<number> = new Set();

/** The reference's measure: the mean of ROUGE-L's precision both ways, over lower-case words and numbers. */
export function agreement(a: string, b: string): number {
  const wordsOf = (text: string): readonly string[] => text.toLowerCase().match(/[a-z0-9]+/g) ?? [];
  const x = wordsOf(a);
  const y = wordsOf(b);
  if (x.length === 0 || y.length === 0) return x.length === y.length ? 1 : 0;
  const common = commonSubsequence(x, y);
  return (common / x.length + common / y.length) / 2;
}

function alike(a: readonly number[], b: readonly number[]): number {
  const at = a.findIndex((token, i) => token !== b[i]);
  return at < 0 ? a.length : at;
}
