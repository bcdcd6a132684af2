# ptxas's account of each kernel and architecture as a table. Exits with 1 where registers are
# spilled, with 2 where there is no account.
/Compiling entry function/ {
  kernel = $0
  sub(/.*entry function '[^']*sgmf4cuda[0-9]+/, "", kernel)
  sub(/E*v?NS.*/, "", kernel)
  sub(/ILi/, "<", kernel)
  sub(/ELb1$/, ", true>", kernel)
  sub(/ELb0$/, ", false>", kernel)
  architecture = $0
  sub(/.*for 'sm_/, "", architecture)
  sub(/'.*/, "", architecture)
}
/bytes spill stores/ && !/ 0 bytes spill stores, 0 bytes spill loads/ {
  print "spilled: " kernel " on sm_" architecture ": " $0 > "/dev/stderr"
  failed = 1
}
/Used [0-9]+ registers/ {
  count = $0
  sub(/.*Used /, "", count)
  sub(/ registers.*/, "", count)
  if (!((kernel, architecture) in registers)) ++found
  registers[kernel, architecture] = count
  if (!(kernel in kernels)) kernels[kernel] = ++rows
  row_name[kernels[kernel]] = kernel
  if (!(architecture in columns)) columns[architecture] = ++width
}
END {
  if (!found || found != rows * width) {
    print "the compiler's account of the kernels is missing or incomplete" > "/dev/stderr"
    exit 2
  }
  header = "| registers of a thread |"
  line = "|---|"
  for (number = 1; number < 1000; ++number) {  # in order, whichever was compiled first
    if (!((number "") in columns)) continue
    header = header " sm_" number " |"
    line = line "---:|"
    for (i = 1; i <= rows; ++i) cells[i] = cells[i] " " registers[row_name[i], number] " |"
  }
  print header
  print line
  for (i = 1; i <= rows; ++i) print "| `" row_name[i] "` |" cells[i]
  exit failed
}
