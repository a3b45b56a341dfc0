// Makes the one Config injectable everywhere under CONFIG, and the transport read by it: its files are read once.
import type { DynamicModule } from '@nestjs/common';
import { Global, Module } from '@nestjs/common';
import { Transport } from '@spotlight/proto/transport';
import type { Config } from './config.js';
import { CONFIG } from './config.js';

@Global()
@Module({})
export class ConfigModule {
  static forRoot(config: Config, transport: Transport): DynamicModule {
    return {
      module: ConfigModule,
      providers: [
        { provide: CONFIG, useValue: config },
        { provide: Transport, useValue: transport },
      ],
      exports: [CONFIG, Transport],
    };
  }
}
