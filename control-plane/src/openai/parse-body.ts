// Bodies are checked by zod, and its first finding becomes one sentence that names the field in the client's own words.
// Unknown fields are errors: a misspelt parameter that is ignored costs its user more than a 400 does.
import type { z } from 'zod';
import { invalidArgument } from '../errors/service-error.js';
import type { ServiceError } from '../errors/service-error.js';
import { withoutUnsupported } from './unsupported.js';

/** Throws INVALID_ARGUMENT with `param` set to the field at fault. */
export function parseBody<S extends z.ZodType>(schema: S, body: unknown): z.output<S> {
  if (typeof body !== 'object' || body === null || Array.isArray(body)) {
    throw invalidArgument('', 'The body must be a JSON object; send it with Content-Type: application/json.');
  }
  const parsed = schema.safeParse(withoutUnsupported(body as Record<string, unknown>));
  if (parsed.success) return parsed.data;
  const [issue] = parsed.error.issues;
  if (issue === undefined) throw new Error('zod refused a body without an issue');
  throw describe(issue, body);
}

function describe(issue: z.core.$ZodIssue, body: unknown): ServiceError {
  const field = fieldName(issue.path);
  switch (issue.code) {
    case 'unrecognized_keys': {
      const unknown = fieldName([...issue.path, issue.keys[0] ?? '']);
      return invalidArgument(
        unknown,
        `${unknown} is not a parameter of this route; leave it out.`,
        'unknown_parameter',
      );
    }
    case 'invalid_type': {
      const found = valueAt(body, issue.path);
      if (found === undefined) {
        return invalidArgument(field, `${field} is missing.`, 'missing_required_parameter');
      }
      return invalidArgument(
        field,
        `${field} must be ${article(issue.expected)}, not ${kindOf(found)}.`,
        'invalid_type',
      );
    }
    case 'too_small':
      return invalidArgument(
        field,
        `${field} must be ${issue.inclusive === false ? 'above' : 'at least'} ${issue.minimum}${unitOf(issue.origin)}.`,
        'invalid_value',
      );
    case 'too_big':
      return invalidArgument(
        field,
        `${field} must be ${issue.inclusive === false ? 'below' : 'at most'} ${issue.maximum}${unitOf(issue.origin)}.`,
        'invalid_value',
      );
    case 'invalid_value':
      return invalidArgument(field, `${field} must be one of ${issue.values.join(', ')}.`, 'invalid_value');
    default:
      return invalidArgument(field, `${field}: ${issue.message}`, 'invalid_value');
  }
}

/** `messages[2].content` */
export function fieldName(path: readonly PropertyKey[]): string {
  return path.reduce<string>((name, part) => {
    if (typeof part === 'number') return `${name}[${part}]`;
    return name === '' ? String(part) : `${name}.${String(part)}`;
  }, '');
}

function valueAt(body: unknown, path: readonly PropertyKey[]): unknown {
  return path.reduce<unknown>(
    (value, part) => (value as Record<PropertyKey, unknown> | undefined)?.[part],
    body,
  );
}

export function kindOf(value: unknown): string {
  if (value === null) return 'null';
  if (Array.isArray(value)) return 'an array';
  if (typeof value === 'number') return `the number ${value}`;
  return article(typeof value);
}

function article(noun: string): string {
  if (noun === 'int') return 'a whole number';
  return `${/^[aeio]/.test(noun) ? 'an' : 'a'} ${noun}`;
}

function unitOf(origin: string): string {
  if (origin === 'string') return ' characters long';
  return origin === 'array' ? ' entries long' : '';
}
