import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { helpText, readOptions, UsageError } from './options.js';
import { readChoices, readPrompts, readQuestions, readTexts, SourceError } from './sources.js';
import { cutMiddle, promptOf } from './tasks/qa.js';
import { probePositions } from './tasks/windows.js';
import { rowEnds } from './window.js';

const texts = ['--texts', 'a.txt'];

describe('the command line of eval', () => {
  it('fills every default', () => {
    const options = readOptions(texts);
    assert.deepEqual(options.tasks, ['iou', 'ppl', 'needle', 'fidelity']);
    assert.deepEqual(options.budgets, [0.02]);
    assert.deepEqual(options.needle.depths, [0, 0.25, 0.5, 0.75, 1]);
    assert.equal(options.equalBytes, true);
    assert.equal(options.timeLimit, undefined);
    assert.equal(options.length, 8192);
  });

  it('reads lists, repeated flags and switches', () => {
    const options = readOptions([
      ...['--tasks', 'ppl', '--texts', 'a', '--texts', 'b', '--budget', '0.01, 0.05', '--tail'],
      ...['--no-equal-bytes', '--threads', '3', '--methods', 'dense,quest'],
    ]);
    assert.deepEqual(options.texts, ['a', 'b']);
    assert.deepEqual(options.budgets, [0.01, 0.05]);
    assert.deepEqual([options.tail, options.equalBytes, options.threads], [true, false, 3]);
  });

  it('names the flag that is wrong and what would be right', () => {
    for (const [args, message] of [
      [[], /--texts/],
      [['--tasks', 'ppl,speed', ...texts], /--tasks speed: there are iou, ppl/],
      [['--budget', '2', ...texts], /--budget 2: must be a number from/],
      [['--budget', '', ...texts], /--budget: is empty/],
      [['--length', '12.5', ...texts], /--length 12.5: must be a whole number/],
      [['--dense-prefix', '9000', ...texts], /--dense-prefix 9000/],
      [['--tasks', 'qa'], /--qa FILE/],
      [['--tasks', 'fewshot'], /--fewshot FILE/],
      [['--device', 'tpu', ...texts], /--device tpu: there are cpu, cuda/],
      [['--fast'], /--fast/],
    ] as const)
      assert.throws(
        () => readOptions(args),
        (error) => error instanceof UsageError && message.test(error.message),
        args.join(' '),
      );
    assert.equal(readOptions(['--help']).help, true);
    for (const word of ['--needle-depths', '--calibrate', 'Examples']) assert(helpText().includes(word));
  });
});

describe('sources', () => {
  let folder: string;
  before(() => {
    folder = mkdtempSync(join(tmpdir(), 'spotlight-eval-'));
  });
  after(() => {
    rmSync(folder, { recursive: true });
  });
  const file = (name: string, text: string): string => {
    writeFileSync(join(folder, name), text);
    return join(folder, name);
  };

  it('reads files and folders of text by name', () => {
    const one = file('b.txt', 'bee');
    file('a.txt', 'ay');
    assert.deepEqual(
      readTexts([folder, one]).map(({ name, text }) => [name, text]),
      [
        ['a.txt', 'ay'],
        ['b.txt', 'bee'],
        ['b.txt', 'bee'],
      ],
    );
  });

  it('reads questions and choices, and names the line that is wrong', () => {
    const question = '{"context":"c","input":"i","answers":["a"],"all_classes":null}';
    assert.deepEqual(readQuestions(file('hotpotqa.jsonl', `${question}\n\n`)), [
      { dataset: 'hotpotqa', context: 'c', input: 'i', answers: ['a'], classes: [] },
    ]);
    const choice = '{"question":"q","choices":["x","y"],"answer":"B"}';
    assert.equal(readChoices(file('mc.jsonl', choice))[0]?.answer, 1);
    for (const [text, message] of [
      [`${question}\nnot json`, /wrong.jsonl:2: not JSON/],
      ['[1]', /wrong.jsonl:1: must be a JSON object/],
      ['{"context":"c","input":1,"answers":["a"]}', /input must be a string/],
      ['{"context":"c","input":"i","answers":[]}', /answers must be a list/],
      ['\n', /has no line/],
    ] as const)
      assert.throws(
        () => readQuestions(file('wrong.jsonl', text)),
        (error) => error instanceof SourceError && message.test(error.message),
      );
    assert.throws(() => readChoices(file('wrong.jsonl', choice.replace('"B"', '2'))), /index or letter/);
  });

  it('reads prompts by data set, and fills them', () => {
    const prompts = readPrompts(
      file(
        'prompts.json',
        JSON.stringify({ qasper: 'Read {context} Say: {input}?', trec: '{context}{input}' }),
      ),
    );
    const asked = { dataset: 'qasper_e', context: 'C', input: '$& why', answers: ['a'], classes: [] };
    assert.deepEqual(promptOf(prompts, asked), { before: 'Read ', behind: ' Say: $& why?' });
    assert.deepEqual(promptOf(prompts, { ...asked, dataset: 'mine' }), {
      before: '',
      behind: '\n\nQuestion: $& why\nAnswer:',
    });
    for (const [text, message] of [
      ['{', /not JSON/],
      ['[]', /must be an object/],
      ['{"a":"{input}"}', /a must be a text with \{context\}/],
      ['{"a":"{context}{context}"}', /once/],
    ] as const)
      assert.throws(
        () => readPrompts(file('wrong.json', text)),
        (error) => error instanceof SourceError && message.test(error.message),
      );
  });

  it('cuts a context in the middle', () => {
    assert.deepEqual(cutMiddle([1, 2, 3, 4, 5, 6], 5), [1, 2, 3, 5, 6]);
    assert.deepEqual(cutMiddle([1, 2], 5), [1, 2]);
  });
});

describe('a window', () => {
  it('is cut into rows after the dense prefix and every probe', () => {
    assert.deepEqual(rowEnds(1200, 0, []), [512, 1024, 1200]);
    assert.deepEqual(rowEnds(1200, 100, [699, 1199]), [100, 612, 700, 1200]);
    assert.deepEqual(rowEnds(512, 0, [511]), [512]);
  });

  it('is probed evenly, at its last token, too', () => {
    const positions = probePositions(8192, 0);
    assert.equal(positions.length, 16);
    assert.equal(positions[0], 511);
    assert.equal(positions.at(-1), 8191);
    assert(probePositions(1000, 900).every((position) => position >= 900));
  });
});
