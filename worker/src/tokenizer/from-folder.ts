// A Hugging Face model folder -> tokenizer definition: tokenizer.json for the pipeline, tokenizer_config.json for names,
// bos rule and chat template, generation_config.json for the ids that end a text. Only tokenizer.json must be there.
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { TokenizerDefinition, TokenizerJson } from './definition.js';
import { TokenizerError } from './errors.js';

type TokenName = string | { readonly content?: string } | null | undefined;

interface TokenizerConfig {
  readonly bos_token?: TokenName;
  readonly eos_token?: TokenName;
  readonly pad_token?: TokenName;
  readonly unk_token?: TokenName;
  readonly add_bos_token?: boolean | null;
  readonly add_eos_token?: boolean | null;
  readonly tokenizer_class?: string;
  readonly chat_template?: string | readonly { readonly name: string; readonly template: string }[];
}

/** @throws TokenizerError naming the file at fault */
export async function definitionFromFolder(folder: string): Promise<TokenizerDefinition> {
  const json = await readJson<TokenizerJson>(join(folder, 'tokenizer.json'));
  if (json === undefined) {
    throw new TokenizerError(
      `${folder} has no tokenizer.json: save the model's fast tokenizer there (tokenizer.save_pretrained in transformers)`,
    );
  }
  const model = (json as { model?: { vocab?: unknown } }).model;
  if (typeof model?.vocab !== 'object' || model.vocab === null)
    throw new TokenizerError(`${join(folder, 'tokenizer.json')} holds no model.vocab: it is not a tokenizer`);
  const config = (await readJson<TokenizerConfig>(join(folder, 'tokenizer_config.json'))) ?? {};
  const generation = await readJson<{ eos_token_id?: number | readonly number[] }>(
    join(folder, 'generation_config.json'),
  );
  const added = (json as { added_tokens?: TokenizerJson['added_tokens'] | null }).added_tokens ?? [];
  const complete: TokenizerJson = { ...json, added_tokens: added };
  const eosToken = nameOf(config.eos_token);
  const eosId = eosToken === undefined ? undefined : idOf(complete, eosToken);
  const listed = generation?.eos_token_id ?? [];
  return {
    json: withWrapping(complete, config),
    source: folder,
    bosToken: nameOf(config.bos_token),
    eosToken,
    padToken: nameOf(config.pad_token),
    unknownToken: nameOf(config.unk_token),
    stopTokenIds: [
      ...new Set([
        ...(typeof listed === 'number' ? [listed] : listed),
        ...(eosId === undefined ? [] : [eosId]),
      ]),
    ],
    chatTemplate:
      (await readText(join(folder, 'chat_template.jinja'))) ?? defaultTemplate(config.chat_template),
  };
}

function nameOf(token: TokenName): string | undefined {
  return typeof token === 'string' ? token : token?.content;
}

function idOf(json: TokenizerJson, token: string): number | undefined {
  const added = json.added_tokens.find((candidate) => candidate.content === token)?.id;
  if (added !== undefined || Array.isArray(json.model.vocab)) return added;
  const vocab = json.model.vocab as Readonly<Record<string, number>>;
  return Object.hasOwn(vocab, token) ? vocab[token] : undefined;
}

function defaultTemplate(template: TokenizerConfig['chat_template']): string | undefined {
  if (template === undefined || typeof template === 'string') return template;
  return (template.find(({ name }) => name === 'default') ?? template[0])?.template;
}

/**
 * Llama's tokenizer class lays its own bos/eos rule from tokenizer_config.json over the file's post-processor;
 * other classes leave what tokenizer.json says.
 */
function withWrapping(json: TokenizerJson, config: TokenizerConfig): TokenizerJson {
  const llamaClass = /^(Llama|CodeLlama)Tokenizer/.test(config.tokenizer_class ?? '');
  const ruled = typeof config.add_bos_token === 'boolean' || typeof config.add_eos_token === 'boolean';
  if (!llamaClass || !ruled) return json;
  const wrap = (use: boolean, token: TokenName): { content: string; id: number }[] => {
    const content = nameOf(token);
    const id = content === undefined ? undefined : idOf(json, content);
    return use && content !== undefined && id !== undefined ? [{ content, id }] : [];
  };
  const before = wrap(config.add_bos_token ?? true, config.bos_token);
  const after = wrap(config.add_eos_token ?? false, config.eos_token);
  const part = ({ content }: { content: string }): object => ({ SpecialToken: { id: content, type_id: 0 } });
  const sequence = { Sequence: { id: 'A', type_id: 0 } };
  return {
    ...json,
    post_processor:
      before.length + after.length === 0
        ? null
        : {
            type: 'TemplateProcessing',
            single: [...before.map(part), sequence, ...after.map(part)],
            pair: [sequence, { Sequence: { id: 'B', type_id: 1 } }],
            special_tokens: Object.fromEntries(
              [...before, ...after].map(({ content, id }) => [
                content,
                { id: content, ids: [id], tokens: [content] },
              ]),
            ),
          },
  };
}

async function readText(path: string): Promise<string | undefined> {
  try {
    return await readFile(path, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw new TokenizerError(`${path} cannot be read: ${(error as Error).message}`, { cause: error });
  }
}

async function readJson<T>(path: string): Promise<T | undefined> {
  const text = await readText(path);
  if (text === undefined) return undefined;
  try {
    return JSON.parse(text) as T;
  } catch (error) {
    throw new TokenizerError(`${path} is not JSON: ${(error as Error).message}`, { cause: error });
  }
}
