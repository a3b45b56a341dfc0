// Mocha's spec output for people, and the outcome as JSON in $SPOTLIGHT_TEST_OUTCOME for test/run.mjs.
// mocha keeps no reason for a skipped test, so the last line a test printed before this.skip() is taken as it.
const { writeFileSync } = require('node:fs');
const { reporters } = require('mocha');

const PRINTED_BY_SPEC = ['start', 'suite', 'suite end', 'pass', 'fail', 'pending', 'end'];

class OutcomeReporter {
  constructor(runner, options) {
    const outcome = { passed: 0, failed: [], skipped: [] };
    let own = false;
    let lastLine = '';
    const streams = [process.stdout, process.stderr].map((stream) => ({ stream, write: stream.write }));
    for (const { stream, write } of streams) {
      stream.write = (chunk, ...rest) => {
        const line = String(chunk).trim().split('\n').pop();
        if (!own && line) lastLine = line;
        return write.call(stream, chunk, ...rest);
      };
    }
    for (const event of ['suite', 'test']) runner.on(event, () => (lastLine = ''));
    for (const event of PRINTED_BY_SPEC) runner.on(event, () => (own = true));
    runner.on('pass', () => (outcome.passed += 1));
    runner.on('fail', (test, error) =>
      outcome.failed.push({ title: test.fullTitle(), message: String(error?.message ?? error) }),
    );
    runner.on('pending', (test) =>
      outcome.skipped.push({ title: test.fullTitle(), reason: lastLine.replace(/^skipped:\s*/, '') }),
    );
    this.spec = new reporters.Spec(runner, options);
    for (const event of PRINTED_BY_SPEC) runner.on(event, () => (own = false));
    runner.on('end', () => {
      for (const { stream, write } of streams) stream.write = write;
      if (process.env.SPOTLIGHT_TEST_OUTCOME)
        writeFileSync(process.env.SPOTLIGHT_TEST_OUTCOME, JSON.stringify(outcome));
    });
  }
}

module.exports = OutcomeReporter;
