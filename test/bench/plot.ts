// A plot of lines over a doubling axis, both axes logarithmic, as one SVG for a README: no script, no font but the reader's,
// colours that read on a light and a dark page.
export interface Series {
  readonly name: string;
  readonly points: readonly (readonly [x: number, y: number])[];
  /** What cannot be beaten: drawn dashed and grey. */
  readonly floor?: boolean;
}

export interface Plot {
  readonly title: string;
  readonly xLabel: string;
  readonly yLabel: string;
  readonly series: readonly Series[];
}

const WIDTH = 720;
const HEIGHT = 420;
const LEFT = 64;
const RIGHT = 200;
const TOP = 44;
const BOTTOM = 52;
const COLOURS = ['#d1495b', '#edae49', '#00798c', '#5f4bb6', '#66a182', '#2e86ff'];
const INK = '#7a828e';

const escape = (text: string): string =>
  text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;');

/** 32768 as 32K. */
export function tokens(count: number): string {
  for (const [unit, size] of [
    ['M', 2 ** 20],
    ['K', 2 ** 10],
  ] as const) {
    if (count >= size && count % size === 0) return `${count / size}${unit}`;
  }
  return String(count);
}

const round = (value: number): string => value.toFixed(1);

/** @throws RangeError when there is no point to draw, or one that is not positive */
export function svg({ title, xLabel, yLabel, series }: Plot): string {
  const points = series.flatMap((one) => one.points);
  if (points.length === 0) throw new RangeError(`${title}: nothing to plot`);
  if (points.some(([x, y]) => !(x > 0 && y > 0)))
    throw new RangeError(`${title}: a logarithmic axis has no place for values that are not positive`);
  const xs = [...new Set(points.map(([x]) => x))].sort((a, b) => a - b);
  const ys = points.map(([, y]) => y);
  const decades = [Math.floor(Math.log10(Math.min(...ys))), Math.ceil(Math.log10(Math.max(...ys)))] as const;
  const low = decades[0];
  const high = Math.max(decades[1], low + 1);
  const firstX = Math.log2(xs[0] ?? 1);
  const lastX = Math.max(Math.log2(xs.at(-1) ?? 2), firstX + 1);
  const x = (value: number): number =>
    LEFT + ((Math.log2(value) - firstX) / (lastX - firstX)) * (WIDTH - LEFT - RIGHT);
  const y = (value: number): number =>
    HEIGHT - BOTTOM - ((Math.log10(value) - low) / (high - low)) * (HEIGHT - TOP - BOTTOM);
  const text = (at: readonly [number, number], anchor: string, words: string, more = ''): string =>
    `<text x="${round(at[0])}" y="${round(at[1])}" text-anchor="${anchor}" ${more}>${escape(words)}</text>`;
  const line = (from: readonly [number, number], to: readonly [number, number]): string =>
    `<line x1="${round(from[0])}" y1="${round(from[1])}" x2="${round(to[0])}" y2="${round(to[1])}" stroke="${INK}" stroke-opacity="0.3"/>`;
  const parts = [text([LEFT, 24], 'start', title, 'font-size="15" font-weight="600"')];
  for (let decade = low; decade <= high; decade++) {
    const at = y(10 ** decade);
    parts.push(line([LEFT, at], [WIDTH - RIGHT, at]));
    parts.push(text([LEFT - 8, at + 4], 'end', String(Number((10 ** decade).toPrecision(1)))));
  }
  for (const value of xs) {
    parts.push(line([x(value), TOP], [x(value), HEIGHT - BOTTOM]));
    parts.push(text([x(value), HEIGHT - BOTTOM + 18], 'middle', tokens(value)));
  }
  parts.push(text([(LEFT + WIDTH - RIGHT) / 2, HEIGHT - 12], 'middle', xLabel));
  const middle = (TOP + HEIGHT - BOTTOM) / 2;
  parts.push(text([16, middle], 'middle', yLabel, `transform="rotate(-90 16 ${round(middle)})"`));
  // Names stand at the ends of their lines, moved apart where they would overlap.
  const labels: { at: number; name: string; colour: string }[] = [];
  series.forEach(({ name, points: own, floor }, i) => {
    if (own.length === 0) return;
    const colour = floor ? INK : (COLOURS[i % COLOURS.length] ?? INK);
    const sorted = [...own].sort((a, b) => a[0] - b[0]);
    const path = sorted.map(([px, py], at) => `${at === 0 ? 'M' : 'L'}${round(x(px))} ${round(y(py))}`);
    const dash = floor ? ' stroke-dasharray="5 4"' : '';
    parts.push(`<path d="${path.join('')}" fill="none" stroke="${colour}" stroke-width="2"${dash}/>`);
    if (!floor)
      for (const [px, py] of sorted)
        parts.push(`<circle cx="${round(x(px))}" cy="${round(y(py))}" r="3" fill="${colour}"/>`);
    labels.push({ at: y(sorted.at(-1)?.[1] ?? 1) + 4, name, colour });
  });
  labels.sort((a, b) => a.at - b.at);
  labels.forEach((label, i) => {
    const above = labels[i - 1];
    if (above !== undefined) label.at = Math.max(label.at, above.at + 16);
    parts.push(text([WIDTH - RIGHT + 10, label.at], 'start', label.name, `style="fill:${label.colour}"`));
  });
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${HEIGHT}" font-family="sans-serif" font-size="12" fill="${INK}">`,
    ...parts.map((part) => `  ${part}`),
    '</svg>',
    '',
  ].join('\n');
}
