// Plots as inline SVG: lines and heat maps, no script, no font but the reader's, colours that read on a light and a dark page. Pure.
export interface Series {
  readonly name: string;
  /** Which colour, so that a name has one in every plot; absent: by its place. */
  readonly colour?: number;
  readonly points: readonly (readonly [x: number, y: number])[];
}

export interface LineChart {
  readonly title: string;
  readonly xLabel: string;
  readonly yLabel: string;
  readonly series: readonly Series[];
  readonly logX?: boolean;
  /** Points above are left out, and the name of their series says so: one that fails would flatten all others. */
  readonly mostY?: number | undefined;
}

export interface HeatMap {
  readonly title: string;
  readonly xLabel: string;
  readonly yLabel: string;
  readonly columns: readonly string[];
  readonly rows: readonly string[];
  /** [rows][columns], 0 to 1; undefined: not measured. */
  readonly values: readonly (readonly (number | undefined)[])[];
}

const WIDTH = 720;
const HEIGHT = 380;
const LEFT = 70;
const RIGHT = 170;
const TOP = 40;
const BOTTOM = 50;
const COLOURS = [
  '#d1495b',
  '#00798c',
  '#edae49',
  '#5f4bb6',
  '#66a182',
  '#2e86ff',
  '#b56576',
  '#7f9c2f',
  '#8d6a9f',
  '#c06e52',
];
const INK = '#7a828e';

export const escaped = (text: string): string =>
  text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;').replaceAll('"', '&quot;');

const px = (value: number): string => value.toFixed(1);
const short = (value: number): string => Number(value.toPrecision(3)).toString();

function svg(width: number, height: number, parts: readonly string[]): string {
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" width="${width}" font-family="sans-serif" font-size="12" fill="${INK}">\n${parts.join('\n')}\n</svg>`;
}

function label(x: number, y: number, anchor: 'start' | 'middle' | 'end', words: string, more = ''): string {
  return `<text x="${px(x)}" y="${px(y)}" text-anchor="${anchor}" ${more}>${escaped(words)}</text>`;
}

/** Where values lie on an axis of `pixels`, and five ticks. Linear or logarithmic; one value alone lies in the middle. */
function axis(values: readonly number[], log: boolean): { at: (value: number) => number; ticks: number[] } {
  const scale = (value: number): number => (log ? Math.log(value) : value);
  const low = Math.min(...values.map(scale));
  const high = Math.max(...values.map(scale));
  const span = high - low;
  const back = (value: number): number => (log ? Math.exp(value) : value);
  return {
    at: (value) => (span === 0 ? 0.5 : (scale(value) - low) / span),
    ticks: span === 0 ? [back(low)] : [0, 0.25, 0.5, 0.75, 1].map((share) => back(low + share * span)),
  };
}

function below({ name, points, ...rest }: Series, most: number): Series {
  const kept = points.filter(([, y]) => y <= most);
  return {
    ...rest,
    name: kept.length < points.length ? `${name} (above: ${points.length - kept.length})` : name,
    points: kept,
  };
}

/** Empty when there is no point. */
export function lineChart({ title, xLabel, yLabel, series: given, logX = false, mostY }: LineChart): string {
  const series = mostY === undefined ? given : given.map((one) => below(one, mostY));
  const points = series.flatMap((one) => one.points);
  if (points.length === 0) return '';
  const x = axis(
    points.map(([value]) => value),
    logX && points.every(([value]) => value > 0),
  );
  const y = axis(
    points.map(([, value]) => value),
    false,
  );
  const atX = (value: number): number => LEFT + x.at(value) * (WIDTH - LEFT - RIGHT);
  const atY = (value: number): number => HEIGHT - BOTTOM - y.at(value) * (HEIGHT - TOP - BOTTOM);
  const parts = [label(LEFT, 22, 'start', title, 'font-size="15" font-weight="600"')];
  const line = (x1: number, y1: number, x2: number, y2: number): string =>
    `<line x1="${px(x1)}" y1="${px(y1)}" x2="${px(x2)}" y2="${px(y2)}" stroke="${INK}" stroke-opacity="0.3"/>`;
  for (const tick of x.ticks)
    parts.push(
      line(atX(tick), TOP, atX(tick), HEIGHT - BOTTOM),
      label(atX(tick), HEIGHT - BOTTOM + 18, 'middle', short(tick)),
    );
  for (const tick of y.ticks)
    parts.push(
      line(LEFT, atY(tick), WIDTH - RIGHT, atY(tick)),
      label(LEFT - 8, atY(tick) + 4, 'end', short(tick)),
    );
  parts.push(label((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 10, 'middle', xLabel));
  parts.push(label(16, HEIGHT / 2, 'middle', yLabel, `transform="rotate(-90 16 ${px(HEIGHT / 2)})"`));
  const names: { at: number; name: string; colour: string }[] = [];
  for (const [place, { name, points: own, colour: i = place }] of series.entries()) {
    const sorted = [...own].sort((a, b) => a[0] - b[0]);
    const last = sorted.at(-1);
    if (last === undefined) continue;
    const colour = COLOURS[i % COLOURS.length] ?? INK;
    const path = sorted
      .map(([px0, py0], at) => `${at === 0 ? 'M' : 'L'}${px(atX(px0))} ${px(atY(py0))}`)
      .join('');
    // More series than colours: the second round is dashed.
    const dash = i < COLOURS.length ? '' : ' stroke-dasharray="5 4"';
    parts.push(`<path d="${path}" fill="none" stroke="${colour}" stroke-width="2"${dash}/>`);
    for (const [px0, py0] of sorted)
      parts.push(`<circle cx="${px(atX(px0))}" cy="${px(atY(py0))}" r="3" fill="${colour}"/>`);
    names.push({ at: atY(last[1]) + 4, name, colour });
  }
  // Names stand at the ends of their lines, moved apart where they would overlap.
  names.sort((a, b) => a.at - b.at);
  for (const [i, one] of names.entries()) {
    const above = names[i - 1];
    if (above !== undefined) one.at = Math.max(one.at, above.at + 15);
    parts.push(label(WIDTH - RIGHT + 10, one.at, 'start', one.name, `style="fill:${one.colour}"`));
  }
  return svg(WIDTH, Math.max(HEIGHT, (names.at(-1)?.at ?? 0) + 12), parts);
}

const CELL = { width: 72, height: 34 } as const;

export function heatMap({ title, xLabel, yLabel, columns, rows, values }: HeatMap): string {
  const parts = [label(LEFT, 22, 'start', title, 'font-size="15" font-weight="600"')];
  for (const [r, row] of rows.entries()) {
    const y = TOP + r * CELL.height;
    parts.push(label(LEFT - 8, y + CELL.height / 2 + 4, 'end', row));
    for (const [c] of columns.entries()) {
      const value = values[r]?.[c];
      const x = LEFT + c * CELL.width;
      // From red over amber to green.
      const fill = value === undefined ? 'none' : `hsl(${Math.round(value * 120)} 55% 55%)`;
      parts.push(
        `<rect x="${x}" y="${y}" width="${CELL.width - 2}" height="${CELL.height - 2}" fill="${fill}" stroke="${INK}" stroke-opacity="0.3"/>`,
      );
      if (value !== undefined)
        parts.push(
          label(
            x + CELL.width / 2,
            y + CELL.height / 2 + 4,
            'middle',
            `${Math.round(value * 100)}%`,
            'style="fill:#111"',
          ),
        );
    }
  }
  const bottom = TOP + rows.length * CELL.height;
  for (const [c, column] of columns.entries())
    parts.push(label(LEFT + (c + 0.5) * CELL.width, bottom + 16, 'middle', column));
  const width = LEFT + Math.max(4, columns.length) * CELL.width + 20;
  parts.push(label(LEFT + (columns.length * CELL.width) / 2, bottom + 36, 'middle', xLabel));
  parts.push(
    label(14, (TOP + bottom) / 2, 'middle', yLabel, `transform="rotate(-90 14 ${px((TOP + bottom) / 2)})"`),
  );
  return svg(width, bottom + 48, parts);
}
