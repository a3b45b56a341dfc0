// The words every task shares: a case is a piece of work that each method does (a window, a needle, a question), a trial one method's
// go at it, a row what tables show: trials of a group averaged, beside exact top-k at as many bytes. Pure but for running the cases.
import type { AttentionSettings, ModelInfo } from '@spotlight/cuda';
import type { BudgetOptions, Method } from './methods.js';
import { reading, settingsOf, shareOf, tokensForBytes, tokensOf } from './methods.js';

export interface Setting {
  readonly method: Method;
  /** Retrieved a KV head. */
  readonly tokens: number;
  readonly attention: Partial<AttentionSettings>;
}

export interface Measured {
  /** Where it is not the case's. */
  readonly task?: string;
  /** What is averaged together: a document, a kind of needle, a layer. */
  readonly group: string;
  readonly metric: string;
  readonly value: number;
  /** One point of a plot (a layer, a position, a cell): left out of the table in the terminal. */
  readonly detail?: true;
}

export interface Trial {
  readonly measured: readonly Measured[];
  /** Rows of K and V that a KV head which selects has read for a token, as counted; undefined where none did. */
  readonly rowsRead: number | undefined;
}

export interface Case {
  readonly task: string;
  /** For progress. */
  readonly name: string;
  /** Tokens at which the bytes of a decode step are told, and of which budgets are shares. */
  readonly context: number;
  /** Before the first trial: what they share. */
  prepare?(): Promise<void>;
  run(setting: Setting): Promise<Trial>;
}

export interface Row extends Measured {
  readonly task: string;
  readonly method: string;
  /** Share of the context; 1 for dense; the mean over the layers where recommended settings decide. */
  readonly budget: number;
  /** Bits of index a token and KV head that it reads. */
  readonly indexBits: number;
  /** Against dense attention's value, for perplexity. */
  readonly ratio?: number;
  readonly context: number;
  /** Rows of K and V read a KV head. */
  readonly rows: number;
  /** Of a decode step. */
  readonly bytes: number;
  /** Exact top-k with a free index that reads as many bytes. */
  readonly equal?: { readonly tokens: number; readonly value: number };
}

export interface Plan {
  readonly methods: readonly Method[];
  readonly budgets: readonly number[];
  readonly leastTokens: number;
  readonly options: BudgetOptions;
  readonly model: Pick<ModelInfo, 'layers' | 'kvHeads' | 'headDim'>;
  /** Exact top-k, to run beside each method at as many bytes; undefined: not wanted. */
  readonly oracle: Method | undefined;
  readonly say: (line: string) => void;
  /** Asked before each case but the first; false ends the run with what was measured so far. */
  readonly mayGoOn?: () => boolean;
}

/** One trial in full: a row before averaging. */
export interface Result extends Omit<Row, 'ratio' | 'equal'> {
  readonly equalTokens?: number;
  readonly equalValue?: number;
}

/** [async] Every method at every budget on every case, in that order within a case. */
export async function runCases(cases: AsyncIterable<Case>, plan: Plan): Promise<Result[]> {
  const results: Result[] = [];
  for await (const one of cases) {
    if (results.length > 0 && plan.mayGoOn?.() === false) break;
    await one.prepare?.();
    const known = new Map<string, Promise<Trial>>();
    const equals: number[] = [];
    const trial = (method: Method, tokens: number): Promise<Trial> => {
      const key = `${method.name} ${tokens}`;
      const attention = settingsOf(method, tokens, plan.options);
      const made = known.get(key) ?? one.run({ method, tokens, attention });
      known.set(key, made);
      return made;
    };
    for (const [i, budget] of plan.budgets.entries()) {
      const tokens = tokensOf(budget, one.context, plan.leastTokens);
      for (const method of plan.methods) {
        const dense = method.name === 'dense';
        if ((dense || method.recommended !== undefined) && i > 0) continue;
        const asked = dense ? one.context : tokens;
        const attention = settingsOf(method, asked, plan.options);
        const { measured, rowsRead } = await trial(method, asked);
        const read = reading(method, rowsRead, one.context, plan.model, attention);
        const equalTokens =
          method.name === 'oracle'
            ? tokens
            : near(tokensForBytes(read.bytes, one.context, plan.model, plan.options.denseLayers), equals);
        const share = method.recommended === undefined ? budget : shareOf(attention, plan.model.layers);
        const equal = plan.oracle === undefined || dense ? undefined : await trial(plan.oracle, equalTokens);
        for (const { task = one.task, group, metric, value, detail } of measured) {
          const same = equal?.measured.find((other) => other.group === group && other.metric === metric);
          results.push({
            ...{ task, group, metric, method: method.name, budget: dense ? 1 : share, value },
            ...{ context: one.context, ...read, indexBits: method.indexBits },
            ...(same && { equalTokens, equalValue: same.value }),
            ...(detail && { detail }),
          });
        }
        const shown = measured[0];
        plan.say(
          `${one.name} ${method.name} ${dense ? '' : `${tokens} tokens `}${shown === undefined ? '' : `${shown.metric} ${shown.value.toFixed(3)}`}`,
        );
      }
    }
  }
  return results;
}

/** One of `known` within 1% of the tokens wanted, so that exact top-k runs once for methods that read as much; else these, now known. */
function near(tokens: number, known: number[]): number {
  const found = known.find((other) => Math.abs(other - tokens) <= 0.01 * tokens);
  if (found === undefined) known.push(tokens);
  return found ?? tokens;
}

const NLL = 'nll';
const mean = (values: readonly number[]): number =>
  values.reduce((sum, value) => sum + value, 0) / values.length;

/** Results of one group, method, budget and metric averaged; negative log-likelihoods become perplexities beside dense ones. */
export function toRows(results: readonly Result[]): Row[] {
  const groups = new Map<string, Result[]>();
  for (const result of results) {
    const { task, group, metric, method, budget } = result;
    const key = JSON.stringify([task, group, metric, method, budget]);
    groups.set(key, [...(groups.get(key) ?? []), result]);
  }
  const rows = [...groups.values()].map((all): Row => {
    const { task, group, metric, method, budget, indexBits, detail } = all[0] as Result;
    const nll = metric === NLL;
    const combined = (values: readonly number[]): number => (nll ? Math.exp(mean(values)) : mean(values));
    const equals = all.filter(({ equalValue }) => equalValue !== undefined);
    return {
      ...{ task, group, method, budget, indexBits, metric: nll ? 'perplexity' : metric },
      value: combined(all.map(({ value }) => value)),
      context: Math.round(mean(all.map(({ context }) => context))),
      rows: mean(all.map(({ rows: read }) => read)),
      bytes: mean(all.map(({ bytes }) => bytes)),
      ...(detail && { detail }),
      ...(equals.length === all.length && {
        equal: {
          tokens: Math.round(mean(equals.map(({ equalTokens = 0 }) => equalTokens))),
          value: combined(equals.map(({ equalValue = 0 }) => equalValue)),
        },
      }),
    };
  });
  return rows.map((row) => {
    if (row.metric !== 'perplexity') return row;
    const dense = rows.find(
      ({ task, group, metric, method }) =>
        task === row.task && group === row.group && metric === row.metric && method === 'dense',
    );
    return dense === undefined ? row : { ...row, ratio: row.value / dense.value };
  });
}
