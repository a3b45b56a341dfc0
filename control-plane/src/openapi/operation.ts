// What a route of the admin API says of itself, beside the route: the OpenAPI document is made of these and of the routes that Nest
// really has, so that neither can name what the other lacks. (@nestjs/swagger reads decorated classes; our bodies are zod schemas.)
import type { CustomDecorator } from '@nestjs/common';
import { SetMetadata } from '@nestjs/common';
import type { z } from 'zod';

export interface Operation {
  /** One line. */
  readonly summary: string;
  /** JSON body by its schema, or bytes of any kind. */
  readonly body?: z.ZodType | 'bytes';
  readonly query?: z.ZodObject;
  /** Name -> what it is for. */
  readonly headers?: Readonly<Record<string, string>>;
  readonly status?: number;
  /** Of a success: JSON by its schema, bytes, or nothing. */
  readonly answer?: z.ZodType | 'bytes';
  /** `error.code` values that this route answers beside those every route can. */
  readonly errors?: readonly string[];
}

export const OPERATION = 'spotlight:operation';

export const Describe = (operation: Operation): CustomDecorator => SetMetadata(OPERATION, operation);
