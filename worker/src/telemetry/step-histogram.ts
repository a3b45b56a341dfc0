// Histogram and counter for what is observed every step: plain numbers in typed arrays, made into prom-client's values
// at the scrape. prom-client hashes labels at every observation, which at 64 streams was a quarter of the step's host time.
import type { Registry } from 'prom-client';
import { Counter, Histogram } from 'prom-client';

export interface StepMetricConfiguration {
  readonly name: string;
  readonly help: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly registers: Registry[];
}

export class StepHistogram extends Histogram {
  readonly #configuration: StepMetricConfiguration;
  readonly #edges: Float64Array;
  /** Observations in each bucket, those above the last edge at the end; not cumulative. */
  readonly #counts: Float64Array;
  #sum = 0;

  constructor(configuration: StepMetricConfiguration, buckets: readonly number[]) {
    const { name, help, labels, registers } = configuration;
    super({ name, help, registers, labelNames: Object.keys(labels), buckets: [...buckets] });
    this.#configuration = configuration;
    this.#edges = Float64Array.from(buckets);
    this.#counts = new Float64Array(buckets.length + 1);
  }

  add(value: number): void {
    let bucket = 0;
    while (bucket < this.#edges.length && value > (this.#edges[bucket] ?? 0)) bucket++;
    this.#counts[bucket] = (this.#counts[bucket] ?? 0) + 1;
    this.#sum += value;
  }

  /** The first `count` values. */
  addAll(values: Float64Array, count: number): void {
    for (let i = 0; i < count; i++) this.add(values[i] ?? 0);
  }

  /** What the registry and get() read of a histogram; prom-client's types do not tell of it. */
  getForPromString(): object {
    const { name, help, labels } = this.#configuration;
    let below = 0;
    const values: object[] = Array.from(this.#counts, (count, bucket) => {
      below += count;
      const le = this.#edges[bucket] ?? '+Inf';
      return { labels: { le, ...labels }, value: below, metricName: `${name}_bucket` };
    });
    values.push({ labels, value: this.#sum, metricName: `${name}_sum` });
    values.push({ labels, value: below, metricName: `${name}_count` });
    return { name, help, type: 'histogram', aggregator: 'sum', values };
  }
}

/** Counts in a plain number. */
export class StepCounter extends Counter {
  readonly #labels: Readonly<Record<string, string>>;
  #total = 0;

  constructor({ name, help, labels, registers }: StepMetricConfiguration) {
    super({ name, help, registers, labelNames: Object.keys(labels) });
    this.#labels = labels;
  }

  add(count: number): void {
    this.#total += count;
  }

  override async get(): ReturnType<Counter['get']> {
    return { ...(await super.get()), values: [{ labels: this.#labels, value: this.#total }] };
  }
}
