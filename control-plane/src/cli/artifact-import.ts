// `spotlight artifact import`: the paper authors' checkpoint (.pth) as an artifact. The model says what the checkpoint must fit and
// gives the fingerprint, so its weights file is opened; nothing in the checkpoint is executed.
import { existsSync, statSync } from 'node:fs';
import type { ModelSource } from '@spotlight/cuda';
import type { Command } from 'commander';
import { CliError, EXIT } from './cli-error.js';

interface ImportFlags {
  readonly model: string;
  readonly out: string;
  readonly source?: string;
  readonly json?: true;
}

/** A GGUF file, a Hugging Face folder, or dummy:SHAPE. */
export function localModel(spec: string): ModelSource {
  const dummy = /^dummy:([\w.-]+)$/.exec(spec)?.[1];
  if (dummy !== undefined) return { kind: 'dummy', shape: dummy };
  if (!existsSync(spec))
    throw new CliError(
      `--model ${spec} does not exist. Give the GGUF file or the Hugging Face folder.`,
      EXIT.usage,
    );
  return { kind: statSync(spec).isDirectory() ? 'safetensors' : 'gguf', path: spec };
}

export function addImportCommand(artifact: Command): void {
  artifact
    .command('import')
    .description("make an artifact of the paper authors' checkpoint, a .pth of one MLP a query head")
    .argument('<file.pth>')
    .requiredOption('--model <path>', 'the model it was trained for: a GGUF file or a Hugging Face folder')
    .requiredOption('--out <file>', 'the artifact to write')
    .option('--source <text>', 'where the checkpoint came from, kept in the metadata')
    .option('--json', 'one JSON object')
    .action(async (file: string, { model, out, source, json }: ImportFlags) => {
      if (existsSync(out)) throw new CliError(`${out} is there already. Remove it or name another file.`);
      const native = await import('@spotlight/cuda');
      const engine = await native.createEngine({
        model: localModel(model),
        device: 'cpu',
        blocks: 1,
        attention: { ...native.DEFAULT_ATTENTION, backend: 'dense' },
      });
      try {
        const { fingerprint, model: shape } = engine.info;
        await native.importPth({
          input: file,
          output: out,
          model: { fingerprint, ...shape },
          metadata: { imported_from: 'pth', ...(source === undefined ? {} : { source }) },
        });
      } finally {
        await engine.dispose();
      }
      const info = await native.inspectArtifact(out);
      const text = json
        ? JSON.stringify(info)
        : `${out}: ${info.encoder}, ${info.bits} bits a query head, ${info.layers.length} layers, digest ${info.digest}`;
      process.stdout.write(`${text}\n`);
    });
}
