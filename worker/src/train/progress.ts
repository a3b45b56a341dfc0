// A training's events for a person: a bar that redraws itself on a terminal, a line now and then elsewhere.
import type { Say, TrainEvent } from './events.js';

const BAR = 24;
const LINE_EVERY_MS = 10_000;
/** Weight of the newest step in the shown loss and pace. */
const NEWEST = 0.1;

export interface Screen {
  readonly isTTY?: boolean;
  write(text: string): unknown;
}

/** 3661 -> "1:01:01" */
export function clock(seconds: number): string {
  const whole = Math.max(0, Math.round(seconds));
  const two = (value: number): string => String(value).padStart(2, '0');
  const hours = Math.floor(whole / 3600);
  const rest = `${two(Math.floor(whole / 60) % 60)}:${two(whole % 60)}`;
  return hours > 0 ? `${hours}:${rest}` : rest;
}

export function bar(done: number, all: number): string {
  const full = Math.round((BAR * done) / Math.max(1, all));
  return `[${'#'.repeat(full)}${'.'.repeat(BAR - full)}]`;
}

export function progress(screen: Screen, now: () => number = () => performance.now()): Say {
  const terminal = screen.isTTY === true;
  let steps = 1;
  let loss: number | undefined;
  let secondsAStep: number | undefined;
  let lastLine = Number.NEGATIVE_INFINITY;
  let open = false; // the bar stands on the current line
  const line = (text: string): void => {
    screen.write(`${open ? '\r\x1b[K' : ''}${text}\n`);
    open = false;
  };
  const onStep = (event: TrainEvent & { event: 'step' }): void => {
    loss = loss === undefined ? event.loss : loss + NEWEST * (event.loss - loss);
    secondsAStep =
      secondsAStep === undefined ? event.seconds : secondsAStep + NEWEST * (event.seconds - secondsAStep);
    const pace = event.tokens / Math.max(1e-9, secondsAStep);
    const text = `step ${event.step}/${steps} ${bar(event.step, steps)} loss ${loss.toFixed(4)}  ${Math.round(pace)} tokens/s  ETA ${clock((steps - event.step) * secondsAStep)}`;
    if (terminal) {
      screen.write(`\r\x1b[K${text}`);
      open = true;
    } else if (now() - lastLine >= LINE_EVERY_MS || event.step === steps) {
      lastLine = now();
      line(text);
    }
  };
  return (event) => {
    switch (event.event) {
      case 'start':
        steps = event.steps;
        line(
          `${event.model} on ${event.device}: ${event.encoder}, ${event.bits} bits, ${event.layers} layers, ${event.steps} steps of ${event.tokensAStep} tokens from ${event.texts} texts`,
        );
        if (event.step > 0) line(`going on after step ${event.step}`);
        break;
      case 'step':
        onStep(event);
        break;
      case 'quality':
        line(
          `step ${event.step}: IoU ${event.iou.toFixed(3)}, kept mass ${event.mass.toFixed(3)} (${event.texts} texts)`,
        );
        break;
      case 'stopped':
        line(`stopped after step ${event.step}; go on with the same command and --resume`);
        break;
      case 'artifact':
        line(`${event.path}: IoU ${event.iou.toFixed(3)}, digest ${event.digest}`);
        break;
    }
  };
}
