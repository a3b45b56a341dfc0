// A training's loss as an SVG: every step, and a running mean that shows the trend through the noise of single texts. Pure.

export interface LossPoint {
  readonly step: number;
  readonly loss: number;
}

const WIDTH = 720;
const HEIGHT = 360;
const MARGIN = { left: 56, right: 16, top: 32, bottom: 40 } as const;

/** Weight of the newest point in the running mean: about the last 20 steps count. */
const NEWEST = 0.1;

export function runningMean(points: readonly LossPoint[]): LossPoint[] {
  let mean = points[0]?.loss ?? 0;
  return points.map(({ step, loss }) => {
    mean += NEWEST * (loss - mean);
    return { step, loss: mean };
  });
}

function escape(text: string): string {
  return text.replace(/[&<>"]/g, (character) => `&#${character.charCodeAt(0)};`);
}

export function lossPlot(points: readonly LossPoint[], title: string): string {
  const steps = Math.max(1, ...points.map(({ step }) => step));
  const highest = Math.max(1e-9, ...points.map(({ loss }) => loss)) * 1.05;
  const x = (step: number): number => MARGIN.left + ((WIDTH - MARGIN.left - MARGIN.right) * step) / steps;
  const y = (loss: number): number =>
    HEIGHT - MARGIN.bottom - ((HEIGHT - MARGIN.top - MARGIN.bottom) * loss) / highest;
  const line = (of: readonly LossPoint[], style: string): string =>
    `<polyline fill="none" ${style} points="${of.map(({ step, loss }) => `${x(step).toFixed(1)},${y(loss).toFixed(1)}`).join(' ')}"/>`;
  const marks = [0, 0.25, 0.5, 0.75, 1];
  const text = (left: number, top: number, anchor: string, content: string): string =>
    `<text x="${left.toFixed(1)}" y="${top.toFixed(1)}" text-anchor="${anchor}">${escape(content)}</text>`;
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${HEIGHT}" font-family="sans-serif" font-size="12">`,
    `<rect width="${WIDTH}" height="${HEIGHT}" fill="white"/>`,
    text(WIDTH / 2, 20, 'middle', title),
    ...marks.flatMap((mark) => [
      `<line x1="${MARGIN.left}" x2="${WIDTH - MARGIN.right}" y1="${y(mark * highest).toFixed(1)}" y2="${y(mark * highest).toFixed(1)}" stroke="#ddd"/>`,
      text(MARGIN.left - 6, y(mark * highest) + 4, 'end', (mark * highest).toPrecision(3)),
      text(x(mark * steps), HEIGHT - MARGIN.bottom + 18, 'middle', String(Math.round(mark * steps))),
    ]),
    text(WIDTH / 2, HEIGHT - 6, 'middle', 'step'),
    line(points, 'stroke="#9bb8d9" stroke-width="1"'),
    line(runningMean(points), 'stroke="#1f5fa8" stroke-width="2"'),
    '</svg>',
    '',
  ].join('\n');
}
