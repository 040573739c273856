import { z } from 'zod'
import { type ConfigFile, defineConfigFile } from './config-folder.ts'
import { roleName } from './fields.ts'

const percent = z.number().min(0, 'expected 0 to 100').max(100, 'expected 0 to 100')
const bps = z.number().int().min(0).max(10_000, 'expected 0 to 10000')

const schema = z
  .looseObject({
    enabled: z.boolean().default(false),
    total_percent: percent.optional(),
    total_bps: bps.optional(),
    recipients: z
      .array(z.looseObject({ role: roleName, percent: percent.optional(), bps: bps.optional() }))
      .default([]),
  })
  .transform((file, context) => {
    const recipients = file.recipients.map(({ role, ...share }, at) => {
      const ppm = toPpm(share.percent, share.bps)
      if (ppm === undefined)
        context.addIssue({ code: 'custom', path: ['recipients', at, 'percent'], message: 'expected a share' })
      return { role, ppm: ppm ?? 0 }
    })
    const sum = recipients.reduce((total, { ppm }) => total + ppm, 0)
    const totalPpm = toPpm(file.total_percent, file.total_bps) ?? sum
    // Percents come rounded to four places, so equal shares may miss the total by a little.
    if (Math.abs(sum - totalPpm) > recipients.length)
      context.addIssue({ code: 'custom', path: ['recipients'], message: 'expected the shares to add up to the total' })
    return { enabled: file.enabled && totalPpm > 0 && recipients.length > 0, totalPpm, recipients }
  })

/** `revenue-share.json`. Shares are millionths of the whole: 1 % is 10,000. */
export type RevenueShare = Readonly<z.output<typeof schema>>

/** `revenue-share.json`, in percent (first generation) or basis points (`total_bps`, `bps`). */
export const revenueShareFile: ConfigFile<RevenueShare> = defineConfigFile('revenue-share.json', schema)

function toPpm(percents: number | undefined, basisPoints: number | undefined): number | undefined {
  if (basisPoints !== undefined) return basisPoints * 100
  return percents === undefined ? undefined : Math.round(percents * 10_000)
}
