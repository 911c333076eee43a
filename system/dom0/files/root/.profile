PS1='dom0:\w# '
alias ls='ls --color=auto' ll='ls -l'
cat /etc/motd 2>/dev/null
