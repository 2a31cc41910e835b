"""NVMe's registers, commands, status codes and data pages, as pure data.

Nothing here touches a device, and only the standard library is imported. By subject:

- `fields`: what declarations are made of, `Struct` and (from `bits`) `Register`
- `registers`: the controller's properties and where they are
- `commands`: queue entries, opcodes, SGL descriptors
- `admin`, `management`, `security`, `directives`, `migration`: the admin commands' dwords and
  data; `events`: what Asynchronous Event Request reports
- `features`: the features of Get and Set Features, a table; `feature_dwords` and `feature_data`:
  their values and data
- `nvm`, `nvm_copy`: the dwords and data of the NVM Command Set's I/O commands; `protection`: what
  is stored with each block; `zns`: zones; `reservations`, `fdp`, `cancel`: of every command set
- `status`: every status code, and `Status`
- `identify`, `identify_controller`, `identify_nvm`, `identify_zns`, `identify_lists`: the pages
  that Identify returns; `identify_pages`: which CNS brings which
- `logs`: every log page and what its command takes; the pages are in the ``logs_`` modules
- `support`: what these pages tell of optional commands, log pages and features

A register is declared one line per field, and reads, writes and dumps itself from those lines::

    class AQA(Register, width=32, offset=0x24):
        \"\"\"Admin Queue Attributes (3.1.3.8).\"\"\"

        asqs = Bits(11, 0, "Admin Submission Queue Size (zero-based)")
        _r15_12 = Reserved(15, 12)
        acqs = Bits(27, 16, "Admin Completion Queue Size (zero-based)")
        _r31_28 = Reserved(31, 28)

    aqa = AQA.build(asqs=31, acqs=31)   # an int: 0x1f001f
    aqa.acqs                            # 31
    aqa.replace(acqs=63)                # a new AQA
    AQA.acqs.mask                       # 0x0fff0000
    AQA.build(acqs=4096)                # ValueError: the range is 0 to 4095

A structure is the same with bytes: ``nsid = U32(4, "Namespace Identifier")`` is four bytes at
offset 4, and ``bits=`` makes the number a `Register`. Names are the specification's abbreviations
in lower case. A layout that leaves a gap, overlaps or does not sum to the declared size does not
import.
"""
